"""A run that waits for a human survives a stop and a start of the server, whichever API made it and continues it."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.processes.conversation import (
    CODEGEN,
    Json,
    agno_name,
    begin_to_continue,
    calls_of,
    confirming,
    continue_run,
    create_codegen_run,
    create_run,
    read_codegen_run,
    read_run,
    read_settled_run,
    rejecting,
    resume_run,
)
from tests.support.processes import Barrier, ServerProcess

# Of each run the first word says through which API it is made, the second through which it is continued.
SCRIPTS = {name: f"delete {name}" for name in ("agno-agno", "agno-codegen", "codegen-agno", "codegen-codegen")}


def pause(client: httpx.Client, name: str) -> Json:
    """Make the run, which pauses for a confirmation; return it with the integer that Codegen knows it by."""
    if name.startswith("agno"):
        run = create_run(client, SCRIPTS[name])
        key = next(key for key in range(1, 20) if run["run_id"] in client.get(f"{CODEGEN}/{key}").text)
        return {**read_run(client, run), "id": key}
    made = create_codegen_run(client, SCRIPTS[name])
    assert read_codegen_run(client, made["id"])["status"] == "PAUSED"
    return {**read_run(client, agno_name(made)), "id": made["id"]}


def test_runs_paused_before_a_stop_are_continued_after_it_through_both_apis(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        with server.client() as client:
            paused = {name: pause(client, name) for name in SCRIPTS}
            question = create_codegen_run(client, "ask colour")
            assert read_codegen_run(client, question["id"])["status"] == "PAUSED"
        server.stop()
        assert not server.database.with_name("unpause.db-wal").exists(), "the database was not closed"
        server.start()
        with server.client() as client:
            for name, run in paused.items():
                assert {**read_run(client, run), "id": run["id"]} == run, name
            for name in ("agno-agno", "codegen-agno"):
                done = continue_run(client, paused[name], confirming(paused[name])).json()
                assert (done["status"], done["content"]) == ("COMPLETED", f"Told: did delete {name}")
                assert read_codegen_run(client, paused[name]["id"])["status"] == "COMPLETE"
                assert calls_of(server, name) == [f"delete {name}"]
            for name in ("agno-codegen", "codegen-codegen"):
                assert resume_run(client, paused[name]["id"], "Please keep it.").status_code == 200
                ended = read_codegen_run(client, paused[name]["id"])
                assert ended["status"] == "COMPLETE"
                assert ended["result"].count("Please keep it.") == 2, "as the note and as the user's words"
                assert read_settled_run(client, paused[name])["tools"][0]["confirmed"] is False
                assert calls_of(server, name) == []
            assert resume_run(client, question["id"], "Blue.").status_code == 200
            assert "Blue." in read_codegen_run(client, question["id"])["result"]


def test_a_run_that_pauses_twice_is_continued_over_two_restarts(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server:
        with server.client() as client:
            run = create_run(client, "delete first, delete second")
        server.stop()
        server.start()
        with server.client() as client:
            again = continue_run(client, run, confirming(run)).json()
            assert again["status"] == "PAUSED"
        server.stop()
        server.start()
        with server.client() as client:
            late = continue_run(client, run, confirming(run))
            assert late.status_code == 409, "the first pause's answer is none to the second"
            ended = continue_run(client, again, rejecting(again, "enough now")).json()
    assert ended["content"] == "Told: did delete first | enough now"
    assert calls_of(server, "first") == ["delete first"]
    assert calls_of(server, "second") == []


def test_a_stop_lets_a_running_call_end_and_its_run_with_it(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, Barrier(tmp_path, "short") as door:
        with server.client() as client:
            run = create_run(client, "guarded short")
            begin_to_continue(client, run, confirming(run))
            door.wait_for_arrival()
        server.send(signal.SIGTERM)
        door.let_go()
        server.wait_for_end()
        assert server.rows("SELECT status FROM runs") == [("COMPLETED",)]
    assert calls_of(server, "short") == ["guarded short"]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.full)])
def test_a_stop_does_not_wait_for_a_stuck_call_which_is_in_doubt_afterwards(
    tmp_path: Path, number: signal.Signals
) -> None:
    with ServerProcess(tmp_path, "--shutdown-grace-seconds", "1") as server, Barrier(tmp_path, "stuck") as door:
        with server.client() as client:
            run = create_run(client, "guarded stuck")
            begin_to_continue(client, run, confirming(run))
            door.wait_for_arrival()
        assert server.stop(number) == -number
        assert server.rows("SELECT status FROM runs") == [("PENDING",)]
        assert "Traceback" not in server.output
        server.start()
        with server.client() as client:
            doubtful = read_settled_run(client, run)
    assert doubtful["status"] == "PAUSED"
    assert "may already have run" in doubtful["content"]
    assert calls_of(server, "stuck") == ["guarded stuck"]


def test_a_stop_by_ctrl_c_does_not_wait_for_a_stuck_call_where_it_was_ignored_at_the_start(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "--shutdown-grace-seconds", "1")
    with ExitStack() as stack:
        door = stack.enter_context(Barrier(tmp_path, "stuck"))
        # As a shell does for what it starts in the background.
        usual = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            stack.enter_context(server)
        finally:
            signal.signal(signal.SIGINT, usual)
        with server.client() as client:
            run = create_run(client, "guarded stuck")
            begin_to_continue(client, run, confirming(run))
            door.wait_for_arrival()
        assert server.stop(signal.SIGINT) == -signal.SIGINT
