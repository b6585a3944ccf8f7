"""Workers whose agents run in processes of their own: what those know, and what their death does to a run."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.nodes.test_two_nodes import begin
from tests.processes.conversation import read_settled_run
from tests.processes.test_agent_processes import processes_of
from tests.support.cluster import Cluster, wait_until
from tests.support.processes import Barrier

TEST_AGENT = """
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

agent = Agent(TestModel(), name="{}")
"""


@pytest.mark.full
def test_a_workers_agent_process_knows_no_database_and_its_death_moves_its_run_on(
    new_cluster: Callable[..., Cluster],
) -> None:
    cluster = new_cluster("--agent-processes", "1", TEST_EXECUTES_AGENTS="1")
    cluster.start(apis=1, workers=1)
    (api,), (worker,) = cluster.apis, cluster.workers
    with Barrier(cluster.folder, "door") as door, api.client() as client:
        run = begin(client, "regated door, say done")
        door.wait_for_arrival()
        for pid in processes_of(worker):
            environment = Path(f"/proc/{pid}/environ").read_text(encoding="utf-8")
            assert "TEST_FOLDER=" in environment
            assert cluster.database_url not in environment
            os.kill(pid, signal.SIGKILL)
        door.wait_for_arrival()
        door.let_go()
        done = read_settled_run(client, run)

    assert (done["status"], done["content"]) == ("COMPLETED", "done ")
    assert [line.what for line in cluster.noted("door")] == ["began", "began", "ended"]
    assert cluster.find_gaps() == []


def test_a_workers_node_names_the_agents_that_a_hangup_brought(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster("--agent-processes", "1", "--lease-seconds", "30")
    agents = cluster.folder / "changing.py"
    text = TEST_AGENT
    agents.write_text(text.format("before"), encoding="utf-8")
    worker = cluster.new_worker("--agents", str(agents))
    worker.start()

    def named() -> list[Any]:
        return cluster.rows("SELECT agents FROM nodes")

    wait_until(lambda: named() == [(["before", "scripted"],)], "the node names its agents")
    agents.write_text(text.format("after"), encoding="utf-8")
    worker.send(signal.SIGHUP)
    wait_until(lambda: named() == [(["after", "scripted"],)], "the node names the new agent")
