"""What a kill -9 leaves behind: finished calls stay finished, calls cut off go to a human, the rest goes on by itself.

One server is killed while it executes several runs, each in another situation; every test looks at one of them after
the restart.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.processes.conversation import (
    Json,
    agno_name,
    begin_to_continue,
    calls_of,
    confirming,
    continue_path,
    continue_run,
    create_codegen_run,
    create_run,
    read_frames,
    read_run,
    read_settled_run,
    rejecting,
    resume_run,
)
from tests.support.agent_processes import HOSTS
from tests.support.processes import DEADLINE, Barrier, ServerProcess

# All these hold a place among the running; the run that stays PENDING finds none.
CONFIRMED_AND_CUT_OFF = ("confirm-again", "reject-then", "resume-then")
RUNNING = (*CONFIRMED_AND_CUT_OFF, "repeat", "two", "next-request", "first-request", "streamed")


@dataclass
class Crash:
    """A server that was killed and started again, with what was known before."""

    server: ServerProcess
    client: httpx.Client
    doors: dict[str, Barrier]
    runs: dict[str, Json] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    keys: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, str] = field(default_factory=dict)
    broken_stream: list[str] = field(default_factory=list)

    def run(self, name: str) -> Json:
        """Return the run as it stands, once nobody executes it."""
        return read_settled_run(self.client, self.runs[name])


@pytest.fixture(scope="module", params=HOSTS)
def crash(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crash]:
    folder = tmp_path_factory.mktemp("crash")
    with ExitStack() as stack:
        options = ("--max-running", str(len(RUNNING)), "--agent-processes", request.param)
        doors = {name: stack.enter_context(Barrier(folder, name)) for name in RUNNING}
        server = stack.enter_context(ServerProcess(folder, *options))
        with server.client() as before:
            crash = Crash(server, before, doors)
            _start_runs(crash)
            _kill_beside_a_stream(crash)
        rows = server.rows("SELECT run_id, id, status FROM runs")
        crash.keys = {run_id: key for run_id, key, _ in rows}
        crash.statuses = {run_id: status for run_id, _, status in rows}
        server.start()
        crash.client = stack.enter_context(server.client())
        yield crash


def _start_runs(crash: Crash) -> None:
    """Bring every run but the streamed one into its situation."""
    scripts = {name: f"guarded {name}" for name in CONFIRMED_AND_CUT_OFF}
    scripts |= {"repeat": "repeatable repeat", "two": "delete two-first & guarded two"}
    for name, script in scripts.items():
        run = create_run(crash.client, script)
        crash.runs[name], crash.tools[name] = run, confirming(run)
        if name == "two":
            _continue_until_one_has_finished(crash)
        else:
            begin_to_continue(crash.client, run, crash.tools[name])
    requests = {
        "next-request": "write noted, think next-request: say Wrote it.",
        "first-request": "think first-request: say Thought.",
    }
    for name, script in requests.items():
        crash.runs[name] = agno_name(create_codegen_run(crash.client, script))
    for name in (*scripts, *requests):
        crash.doors[name].wait_for_arrival()


def _continue_until_one_has_finished(crash: Crash) -> None:
    run, tools = crash.runs["two"], crash.tools["two"]
    with crash.client.stream("POST", continue_path(run), data={"tools": tools}) as response:
        for frame in read_frames(response.iter_lines()):
            if frame.event == "ToolCallCompleted":
                assert frame.data["tool"]["tool_name"] == "delete"
                return
    message = "the stream ended without a finished call"
    raise AssertionError(message)


def _kill_beside_a_stream(crash: Crash) -> None:
    """Kill the server while a client reads from it, and keep how that ended for the client."""
    run = create_run(crash.client, "guarded streamed")
    crash.runs["streamed"], crash.tools["streamed"] = run, confirming(run)
    reader = threading.Thread(target=_read_to_the_end, args=(crash,))
    reader.start()
    crash.doors["streamed"].wait_for_arrival()
    crash.runs["pending"] = agno_name(create_codegen_run(crash.client, "write pending"))
    crash.server.kill()
    reader.join(DEADLINE)


def _read_to_the_end(crash: Crash) -> None:
    data = {"tools": crash.tools["streamed"]}
    with (
        crash.server.client() as client,
        client.stream("POST", continue_path(crash.runs["streamed"]), data=data) as answer,
    ):
        try:
            crash.broken_stream.extend(frame.event for frame in read_frames(answer.iter_lines()))
        except httpx.RemoteProtocolError as error:
            crash.broken_stream.append(str(error))


def test_a_call_cut_off_goes_back_to_a_human_and_runs_again_only_when_confirmed_again(crash: Crash) -> None:
    name = "confirm-again"
    doubtful = crash.run(name)
    assert doubtful["status"] == "PAUSED"
    assert "guarded was running: the call may already have run" in doubtful["content"]
    assert doubtful["tools"][0]["requires_confirmation"] is True
    assert doubtful["tools"][0]["result"] is None
    assert doubtful["requirements"][-1]["in_doubt"] is True
    assert "may already have run" in doubtful["requirements"][-1]["message"]
    assert doubtful["pause_id"] != crash.runs[name]["pause_id"]
    assert calls_of(crash.server, name) == [f"guarded {name}"]

    late = continue_run(crash.client, crash.runs[name], crash.tools[name])
    assert late.status_code == 409, late.text
    assert late.json()["decision"] == "confirmed"
    assert crash.run(name) == doubtful

    crash.doors[name].let_go()
    done = continue_run(crash.client, doubtful, confirming(doubtful)).json()
    assert (done["status"], done["content"]) == ("COMPLETED", f"Told: did guarded {name}")
    assert calls_of(crash.server, name) == [f"guarded {name}"] * 2
    first, again = (crash.server.folder / f"{name}.keys").read_text().split()
    assert first == again == f"{doubtful['run_id']}:call-0-0", "the key for the service that the tool calls"


def test_a_call_cut_off_and_then_rejected_is_not_run_again_and_the_model_reads_the_note(crash: Crash) -> None:
    name = "reject-then"
    doubtful = crash.run(name)
    done = continue_run(crash.client, doubtful, rejecting(doubtful, "it did run, I looked")).json()
    assert (done["status"], done["content"]) == ("COMPLETED", "Told: it did run, I looked")
    assert calls_of(crash.server, name) == [f"guarded {name}"]


def test_a_call_cut_off_is_declined_by_a_resume_with_its_prompt_as_the_note(crash: Crash) -> None:
    name = "resume-then"
    doubtful = crash.run(name)
    assert resume_run(crash.client, crash.keys[doubtful["run_id"]], "I looked, it ran.").status_code == 200
    done = crash.run(name)
    assert done["status"] == "COMPLETED"
    assert done["content"].count("I looked, it ran.") == 2, "as the note and as the user's words"
    assert calls_of(crash.server, name) == [f"guarded {name}"]


def test_an_idempotent_call_cut_off_is_run_again_without_a_question(crash: Crash) -> None:
    crash.doors["repeat"].wait_for_arrival()
    crash.doors["repeat"].let_go()
    done = crash.run("repeat")
    assert (done["status"], done["content"]) == ("COMPLETED", "Told: did repeatable repeat")
    assert len(done["requirements"]) == 1
    assert calls_of(crash.server, "repeat") == ["repeatable repeat"] * 2


def test_of_two_calls_in_one_answer_the_finished_one_is_never_run_again(crash: Crash) -> None:
    doubtful = crash.run("two")
    assert doubtful["status"] == "PAUSED"
    assert [tool["requires_confirmation"] for tool in doubtful["tools"]] == [False, True]
    assert doubtful["tools"][0]["result"] == "did delete two-first"
    crash.doors["two"].let_go()
    done = continue_run(crash.client, doubtful, confirming(doubtful)).json()
    assert (done["status"], done["content"]) == ("COMPLETED", "Told: did delete two-first | did guarded two")
    assert calls_of(crash.server, "two-first") == ["delete two-first"]
    assert calls_of(crash.server, "two") == ["guarded two"] * 2


def test_a_run_killed_during_the_next_model_request_goes_on_and_repeats_no_call(crash: Crash) -> None:
    assert crash.statuses[crash.runs["next-request"]["run_id"]] == "RUNNING"
    crash.doors["next-request"].wait_for_arrival()
    crash.doors["next-request"].let_go()
    done = crash.run("next-request")
    assert (done["status"], done["content"]) == ("COMPLETED", "Wrote it.")
    assert calls_of(crash.server, "noted") == ["write noted"]


def test_a_run_killed_during_its_first_model_request_starts_over_by_itself(crash: Crash) -> None:
    assert crash.statuses[crash.runs["first-request"]["run_id"]] == "RUNNING"
    crash.doors["first-request"].wait_for_arrival()
    crash.doors["first-request"].let_go()
    done = crash.run("first-request")
    assert (done["status"], done["content"]) == ("COMPLETED", "Thought.")


def test_a_run_killed_while_it_was_pending_is_executed_after_the_restart(crash: Crash) -> None:
    assert crash.statuses[crash.runs["pending"]["run_id"]] == "PENDING"
    done = crash.run("pending")
    assert (done["status"], done["content"]) == ("COMPLETED", "Told: did write pending")
    assert calls_of(crash.server, "pending") == ["write pending"]


def test_a_client_that_streamed_sees_its_connection_end_and_reads_the_run_after_the_restart(crash: Crash) -> None:
    *events, end = crash.broken_stream
    assert events == ["RunContinued", "ToolCallStarted"]
    assert "without sending complete message body" in end
    run = read_run(crash.client, crash.runs["streamed"])
    assert run["status"] == "PAUSED"
    assert "may already have run" in run["content"]


def test_a_call_cut_off_twice_is_asked_about_twice(tmp_path: Path) -> None:
    with ServerProcess(tmp_path) as server, Barrier(tmp_path, "often") as door:
        with server.client() as client:
            shown = [create_run(client, "guarded often")]
        for _ in range(2):
            with server.client() as client:
                begin_to_continue(client, shown[-1], confirming(shown[-1]))
                door.wait_for_arrival()
            server.kill()
            server.start()
            with server.client() as client:
                shown.append(read_settled_run(client, shown[0]))
        with server.client() as client:
            for earlier in shown[:2]:
                assert continue_run(client, earlier, confirming(earlier)).status_code == 409
            assert read_run(client, shown[0]) == shown[2]
            assert calls_of(server, "often") == ["guarded often"] * 2
            done = continue_run(client, shown[2], rejecting(shown[2], "stop it")).json()
    assert done["content"] == "Told: stop it"
    assert calls_of(server, "often") == ["guarded often"] * 2
