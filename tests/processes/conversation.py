"""What a client of either API says to a server process, and what it reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import httpx

from tests.support.processes import DEADLINE, ServerProcess

Json: TypeAlias = dict[str, Any]

RUNS: Final = "/agents/scripted/runs"
CODEGEN: Final = "/v1/organizations/1/agent/run"

_UNSETTLED: Final = frozenset({"PENDING", "RUNNING"})


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event."""

    event: str
    id: str
    data: Json


def create_run(client: httpx.Client, script: str, agent: str = "scripted") -> Json:
    """Run an agent through Agno's API until it pauses or ends; return the run."""
    response = client.post(f"/agents/{agent}/runs", data={"message": script, "stream": "false"})
    return _body(response, 200)


def create_codegen_run(client: httpx.Client, script: str) -> Json:
    """Start a run through Codegen's API; return its answer, which does not wait for the run."""
    return _body(client.post(CODEGEN, json={"prompt": script}), 200)


def read_run(client: httpx.Client, run: Json) -> Json:
    """Read the run through Agno's API."""
    return _body(client.get(f"/agents/{run['agent_id']}/runs/{run['run_id']}"), 200)


def read_settled_run(client: httpx.Client, run: Json) -> Json:
    """Read the run again and again until nobody executes it any more; return it."""
    return _poll(lambda: read_run(client, run), lambda found: found["status"] not in _UNSETTLED)


def read_codegen_run(client: httpx.Client, key: int) -> Json:
    """Read the run again and again through Codegen's API until nobody executes it any more; return it."""
    return _poll(lambda: _body(client.get(f"{CODEGEN}/{key}"), 200), lambda found: found["status"] != "ACTIVE")


def agno_name(codegen_run: Json) -> Json:
    """Return the ids by which Agno's API knows a run that was made through Codegen's: they are in its link."""
    _, _, agent_id, _, run_id = codegen_run["web_url"].rsplit("/", 4)
    return {"agent_id": agent_id, "run_id": run_id}


def confirming(run: Json, **changes: object) -> str:
    """Return the `tools` field that confirms all that the paused run waits for."""
    waiting = [item["tool_execution"] for item in run["requirements"] if _is_open(item["tool_execution"])]
    assert waiting, run
    return json.dumps([{**tool, "confirmed": True, **changes} for tool in waiting])


def rejecting(run: Json, note: str) -> str:
    """Return the `tools` field that rejects all that the paused run waits for."""
    return confirming(run, confirmed=False, confirmation_note=note)


def continue_run(client: httpx.Client, run: Json, tools: str) -> httpx.Response:
    """Continue the run through Agno's API; the answer comes when it pauses again or ends."""
    return client.post(continue_path(run), data={"tools": tools, "stream": "false"})


def continue_path(run: Json) -> str:
    """Return where Agno's API takes a continue of the run."""
    return f"/agents/{run['agent_id']}/runs/{run['run_id']}/continue"


def begin_to_continue(client: httpx.Client, run: Json, tools: str) -> None:
    """Continue the run and do not wait for anything: the client is gone as soon as the stream began."""
    with client.stream("POST", continue_path(run), data={"tools": tools}) as response:
        assert response.status_code == 200


def resume_run(client: httpx.Client, key: int, prompt: str) -> httpx.Response:
    """Resume the run through Codegen's API; the answer does not wait for the run."""
    return client.post(f"{CODEGEN}/resume", json={"agent_run_id": key, "prompt": prompt})


def read_frames(lines: Iterator[str]) -> Iterator[Frame]:
    """Yield the events of a stream as they come; comments are left out."""
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield Frame(fields["event"], fields["id"], json.loads(fields["data"]))
            fields = {}


def calls_of(server: ServerProcess, name: str) -> list[str]:
    """Return the calls with this argument that the tools of the server noted, over all its processes."""
    file = server.folder / "calls.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [line for line in lines if line.endswith(f" {name}")]


def _is_open(tool: Json) -> bool:
    return bool(tool["requires_confirmation"]) and tool["confirmed"] is None


def _body(response: httpx.Response, status: int) -> Json:
    assert response.status_code == status, response.text
    body: Json = response.json()
    return body


def _poll(look: Callable[[], Json], is_reached: Callable[[Json], bool]) -> Json:
    """Look until it is reached: each look is a request, so the server sets the pace."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        found = look()
        if is_reached(found):
            return found
    message = "the run did not get there in time"
    raise AssertionError(message)
