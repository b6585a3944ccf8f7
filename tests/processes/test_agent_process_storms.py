"""Agent processes of one server with SQLite are killed, replaced and reloaded under load: no run is lost."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any, LiteralString

import pytest

from tests.nodes.killing import Kills, longest_recovery
from tests.nodes.load import begin_many, check_runs, script_of, wait_until_settled
from tests.support.agent_processes import agent_processes_of
from tests.support.cluster import NODES_AGENTS, Cluster, wait_until
from tests.support.processes import Barrier, ServerProcess

# The short forms of these are in test_agent_processes.py.
pytestmark = pytest.mark.full

RUNS, CALLS, KILLS, SEGMENTS = 40, 40, 12, 150


class SingleNode(Cluster):
    """A server that serves and works on its own, with SQLite and agents that a test may change."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__(server.folder, "")
        self.apis = self.workers = [server]

    def rows(self, query: LiteralString, *values: object) -> list[Any]:
        """Return what the query finds in the database."""
        with closing(sqlite3.connect(self.apis[0].database)) as connection:
            return connection.execute(query, values).fetchall()

    def processes(self) -> set[int]:
        """Return the ids of the agent processes."""
        return agent_processes_of(self.workers[0].pid)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SingleNode]:
    folder = tmp_path_factory.mktemp("storm")
    agents = folder / "agents.py"
    shutil.copyfile(NODES_AGENTS, agents)
    options = ("--agent-processes", "2", "--max-running", str(RUNS), "--max-crashes", "1000")
    environment = {"TEST_WORK_SECONDS": "0.2", "UNPAUSE_RATE_LIMIT_CREATE": ""}
    with ServerProcess(
        folder, "--agents", agents, *options, "--agent-max-segments", str(SEGMENTS), environment=environment
    ) as server:
        yield SingleNode(server)


def begin(node: SingleNode, scripts: list[str]) -> list[str]:
    """Start a run for each script; return their ids."""
    return [run["run_id"] for run in begin_many(node, scripts)]


def results(node: SingleNode, run_ids: list[str]) -> list[tuple[str, str]]:
    """Return status and answer of each of the runs."""
    wait_until_settled(node, 120)
    with node.apis[0].client() as client:
        found = [client.get(f"/agents/scripted/runs/{run_id}").json() for run_id in run_ids]
    return [(run["status"], run["content"]) for run in found]


def test_killed_agent_processes_lose_no_run_and_repeat_no_call(node: SingleNode) -> None:
    begin(node, [script_of(number, CALLS) for number in range(RUNS)])
    kills = Kills()
    for _ in range(KILLS):
        kills.kill_one_that_works(node)
    wait_until_settled(node, 300)
    statuses = check_runs(node)
    assert statuses.total() >= RUNS
    assert kills.report(node, dict(statuses)) < longest_recovery()


def test_new_code_under_load_fails_no_run_and_is_what_goes_on_with_them(node: SingleNode) -> None:
    numbers = range(1000, 1000 + RUNS)
    with ExitStack() as stack:
        doors = [stack.enter_context(Barrier(node.folder, f"{number}-0")) for number in numbers]
        run_ids = begin(node, [f"regated {number}-0, rework {number}-1, work {number}-2" for number in numbers])
        for door in doors:
            door.wait_for_arrival()
        before, reloads = node.processes(), node.apis[0].output.count("agents reloaded")
        agents = node.folder / "agents.py"
        agents.write_text(agents.read_text().replace('f"did {tool}', 'f"newly did {tool}'))
        node.apis[0].send(signal.SIGHUP)
        wait_until(lambda: node.apis[0].output.count("agents reloaded") > reloads, "the agents are reloaded")
        for door in doors:
            door.let_go()
        for number, (status, content) in zip(numbers, results(node, run_ids), strict=True):
            assert status == "COMPLETED", content
            done = [f"did regated {number}-0", f"newly did rework {number}-1", f"newly did work {number}-2"]
            assert content.strip() == f"Told: {' | '.join(done)}"
    wait_until(lambda: not before & node.processes(), "the old processes have ended")


def test_a_process_that_was_starting_when_new_code_came_does_not_stay(node: SingleNode) -> None:
    output, reloads = node.apis[0], node.apis[0].output.count("agents reloaded")
    victim = min(node.processes())
    alive = node.processes() - {victim}
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: node.processes() - alive - {victim}, "a process starts in its place")
    before = node.processes()
    output.send(signal.SIGHUP)
    wait_until(lambda: output.output.count("agents reloaded") > reloads, "the agents are reloaded")
    wait_until(lambda: not before & node.processes(), "the old processes have ended")
    assert len(node.processes()) == 2


def test_processes_that_are_recycled_under_load_fail_no_run(node: SingleNode) -> None:
    def replaced() -> int:
        return node.apis[0].output.count("it has run its segments")

    before, done = replaced(), []
    for batch in range(1 + SEGMENTS // 2):
        done += begin(node, [script_of(2000 + RUNS * batch + number, 3) for number in range(RUNS)])
        if replaced() > before:
            break
        wait_until(lambda: replaced() > before or not _is_busy(node), "segments have run")
    wait_until(lambda: replaced() > before, "a process is replaced")

    assert {status for status, _ in results(node, done)} == {"COMPLETED"}


def _is_busy(node: SingleNode) -> bool:
    return node.statuses().get("RUNNING", 0) + node.statuses().get("PENDING", 0) > 2
