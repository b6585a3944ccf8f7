"""A server that is killed while a setup command runs: the command dies with it, and a human says how to go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.processes.conversation import (
    Json,
    agno_name,
    confirming,
    continue_run,
    read_codegen_run,
    read_run,
    rejecting,
    resume_run,
)
from tests.support.planning import REPOSITORY, make_checkout
from tests.support.processes import DEADLINE, ServerProcess

AGENTS: Final = Path(__file__).parent / "planning_agents.py"
SETUP: Final = "/v1/organizations/1/setup-commands/generate"

# While any of it lives it leaves traces; it ends by itself only once `go` is there.
ENDLESS: Final = (
    "echo began >> trace; (while :; do echo >> alive; sleep 0.03; done) & "
    "while [ ! -e go ]; do sleep 0.03; done; kill $!"
)
PLAN: Final = f"- echo one >> trace\n- {ENDLESS}\n- echo three >> trace"


@dataclass
class Crash:
    """A server that was killed in the second of three commands and started again; its client, and the run."""

    client: httpx.Client
    checkout: Path
    key: int

    def traces(self) -> list[str]:
        """Return what the commands did, over all processes."""
        return (self.checkout / "trace").read_text(encoding="utf-8").split()

    def settled(self) -> Json:
        """Return the run as Codegen shows it, once nobody executes it."""
        return read_codegen_run(self.client, self.key)

    def as_agno(self) -> Json:
        """Return the run as AgentOS shows it."""
        return read_run(self.client, agno_name(self.settled()))


@pytest.fixture
def crash(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Crash]:
    checkout = make_checkout(tmp_path / "checkouts")
    options = ("--agents", AGENTS, "--workspace-root", tmp_path / "checkouts", *getattr(request, "param", ()))
    with ExitStack() as stack:
        server = stack.enter_context(
            ServerProcess(tmp_path / "server", *options, environment={"CANARY_TOKEN": "tweet-tweet"})
        )
        with server.client() as before:
            response = before.post(SETUP, json={"repo_id": REPOSITORY, "prompt": PLAN})
            assert response.status_code == 200, response.text
            key = response.json()["agent_run_id"]
            _until((checkout / "alive").exists)
        server.kill()
        _wait_for_silence(checkout / "alive")
        server.start()
        yield Crash(stack.enter_context(server.client()), checkout, key)


def _until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not reached():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def _wait_for_silence(file: Path) -> None:
    """Return once nothing grows any more: ten times the pause between two traces without a new one."""
    end = time.monotonic() + DEADLINE
    size = -1
    while size != (size := file.stat().st_size):
        assert time.monotonic() < end, "the command outlived its server"
        time.sleep(0.3)


@pytest.mark.parametrize("crash", [("--agent-processes", "0"), ("--agent-processes", "1")], indirect=True, ids="-".join)
def test_a_command_that_was_cut_off_is_confirmed_and_runs_again(crash: Crash) -> None:
    run = crash.settled()
    assert run["status"] == "PAUSED"
    assert "run_command was running: the call may already have run" in run["result"]
    assert crash.traces() == ["one", "began"]
    (crash.checkout / "go").touch()
    shown = crash.as_agno()
    assert continue_run(crash.client, shown, confirming(shown)).status_code == 200
    assert crash.settled()["status"] == "COMPLETE"
    assert crash.traces() == ["one", "began", "began", "three"]


@pytest.mark.full
def test_a_command_that_was_cut_off_is_rejected_and_skipped(crash: Crash) -> None:
    shown = crash.as_agno()
    assert continue_run(crash.client, shown, rejecting(shown, "It had finished.")).status_code == 200
    run = crash.settled()
    assert run["status"] == "COMPLETE"
    assert crash.traces() == ["one", "began", "three"]
    assert f"Cut off by a crash and not run again:\n- `{ENDLESS}`: It had finished." in run["result"]
    assert "\n3. `echo three >> trace`: exit code 0 after" in run["result"]
    assert run["result"].endswith("Script:\n```sh\necho one >> trace\necho three >> trace\n```")


@pytest.mark.full
def test_commands_in_a_resume_take_the_place_of_the_one_that_was_cut_off(crash: Crash) -> None:
    crash.settled()
    assert resume_run(crash.client, crash.key, "$ echo two >> trace").status_code == 200
    assert crash.settled()["status"] == "COMPLETE"
    assert crash.traces() == ["one", "began", "two", "three"]


@pytest.mark.parametrize("crash", [("--agent-processes", "0"), ("--agent-processes", "1")], indirect=True, ids="-".join)
def test_advice_in_a_resume_goes_to_the_model(crash: Crash) -> None:
    crash.settled()
    words = "Do this instead:\n- echo 2b >> trace\n- env > seen"
    assert resume_run(crash.client, crash.key, words).status_code == 200
    assert crash.settled()["status"] == "COMPLETE"
    assert crash.traces() == ["one", "began", "2b"]
    assert "tweet" not in (crash.checkout / "seen").read_text(encoding="utf-8")
