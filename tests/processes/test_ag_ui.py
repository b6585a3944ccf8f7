"""A server that is killed between an interrupt and its resume, and while a resumed call runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.ag_ui import read_stream, yes
from tests.support.processes import Barrier, ServerProcess


def body(run_id: str, messages: list[dict[str, object]], **more: object) -> dict[str, object]:
    return {"threadId": "thread", "runId": run_id, "messages": messages, **more}


@pytest.mark.full
def test_interrupts_survive_a_kill_and_a_call_that_was_cut_off_is_in_doubt(tmp_path: Path) -> None:
    path = "/agents/scripted/ag-ui"
    with Barrier(tmp_path, "door") as door, ServerProcess(tmp_path, "--agent-processes", "0") as server:
        with server.client() as client:
            said: list[dict[str, object]] = [{"id": "u", "role": "user", "content": "guarded door"}]
            (waiting,) = read_stream(client.post(path, json=body("r1", said)).text).interrupts
        server.kill()
        server.start()
        resume = body("r2", said, resume=[yes(waiting)])
        with server.client() as client, client.stream("POST", path, json=resume):
            door.wait_for_arrival()
            server.kill()
        server.start()
        with server.client() as client:
            stream = read_stream(client.get(f"{path}/r2/events").text)
            (doubt,) = stream.interrupts
            assert doubt.metadata["unpause"]["inDoubt"]
            assert doubt.tool_call_id == waiting.tool_call_id
            again = read_stream(client.post(path, json=resume).text)
            assert again.ids == stream.ids
