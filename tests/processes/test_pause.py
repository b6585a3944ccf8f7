"""A server that is killed after somebody asked a run to pause: the next process pauses it, and runs nothing twice."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.processes.conversation import (
    Json,
    agno_name,
    calls_of,
    confirming,
    continue_run,
    create_codegen_run,
    create_run,
    read_codegen_run,
    read_run,
    read_settled_run,
    resume_run,
)
from tests.support.processes import Barrier, ServerProcess


def _ask_to_pause(client: httpx.Client, run: Json) -> None:
    response = client.post(f"/agents/{run['agent_id']}/runs/{run['run_id']}/pause")
    assert (response.status_code, response.json()) == (200, {})


def test_a_run_killed_in_a_model_request_pauses_when_it_is_taken_up(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, Barrier(tmp_path, "asked") as door:
        with server.client() as client:
            made = create_codegen_run(client, "write before, think asked: write after")
            run = agno_name(made)
            door.wait_for_arrival()
            _ask_to_pause(client, run)
        server.kill()
        server.start()
        with server.client() as client:
            paused = read_settled_run(client, run)
            assert (paused["status"], paused["tools"][0]["result"]) == ("PAUSED", "did write before")
            assert "on request" in read_codegen_run(client, made["id"])["result"]
            # The answer that was cut off is asked for again, and not before the resume.
            assert not door.is_awaited()
            assert resume_run(client, made["id"], "go on").status_code == 200
            door.wait_for_arrival()
            door.let_go()
            done = read_settled_run(client, run)
        assert calls_of(server, "before") == ["write before"]
        assert calls_of(server, "after") == ["write after"]
    assert done["status"] == "COMPLETED"
    assert "go on" in done["content"]


def test_a_call_cut_off_after_the_wish_is_asked_about_and_the_wish_is_done_with(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, Barrier(tmp_path, "cut") as door:
        with server.client() as client:
            asked = create_run(client, "guarded cut, write rest")
            tools = confirming(asked)
            path = f"/agents/{asked['agent_id']}/runs/{asked['run_id']}/continue"
            response = client.post(path, data={"tools": tools, "background": "true", "stream": "false"})
            assert response.status_code == 202, response.text
            door.wait_for_arrival()
            _ask_to_pause(client, asked)
        server.kill()
        server.start()
        with server.client() as client:
            doubtful = read_settled_run(client, asked)
            assert doubtful["status"] == "PAUSED"
            assert "may already have run" in doubtful["content"]
            door.let_go()
            done = continue_run(client, doubtful, confirming(doubtful)).json()
        assert (done["status"], calls_of(server, "rest")) == ("COMPLETED", ["write rest"])
        assert calls_of(server, "cut") == ["guarded cut"] * 2


def test_a_run_paused_on_request_is_still_that_after_a_kill(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, Barrier(tmp_path, "asked") as door:
        with server.client() as client:
            run = agno_name(create_codegen_run(client, "think asked: write one & write two"))
            door.wait_for_arrival()
            _ask_to_pause(client, run)
            door.let_go()
            before = read_settled_run(client, run)
        server.kill()
        server.start()
        with server.client() as client:
            assert read_run(client, run) == before
            assert (before["status"], [tool["result"] for tool in before["tools"]]) == ("PAUSED", [None, None])
            assert calls_of(server, "one") == []
            done = continue_run(client, before, "").json()
        assert calls_of(server, "one") == ["write one"]
        assert calls_of(server, "two") == ["write two"]
    assert done["status"] == "COMPLETED"
