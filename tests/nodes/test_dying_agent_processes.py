"""Agent processes and workers die at random under load: no run is lost, no call runs twice, no event is missing."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.nodes.killing import Kills, longest_recovery
from tests.nodes.load import begin_many, check_runs, script_of, wait_until_settled
from tests.support.cluster import Cluster

RUNS, CALLS, WORK_SECONDS, WORKERS = 200, 40, 0.5, 2
CHAOS_SECONDS, KILL_EVERY_SECONDS = 120.0, 1.0
# Every so many kills take the whole worker.
WORKER_EVERY = 8


@pytest.mark.timeout(900)
@pytest.mark.full
def test_agent_processes_killed_at_random_lose_no_run_and_repeat_no_call(
    new_cluster: Callable[..., Cluster],
) -> None:
    cluster = new_cluster(
        *("--agent-processes", "2", "--max-running", str(RUNS), "--max-crashes", "1000"),
        *("--lease-seconds", "2", "--sweep-seconds", "0.5"),
        TEST_WORK_SECONDS=str(WORK_SECONDS),
        TEST_EXECUTES_AGENTS="1",
    )
    cluster.start(apis=1, workers=WORKERS)
    begin_many(cluster, [script_of(number, CALLS) for number in range(RUNS)])
    kills = Kills()
    _kill_at_random(cluster, kills)
    wait_until_settled(cluster, 600)
    statuses = check_runs(cluster)
    assert statuses.total() == RUNS
    assert kills.report(cluster, dict(statuses)) < longest_recovery()


def _kill_at_random(cluster: Cluster, kills: Kills) -> None:
    """Kill an agent process every second, and now and then its worker."""
    end, number = time.monotonic() + CHAOS_SECONDS, 0
    while time.monotonic() < end:
        number += 1
        if number % WORKER_EVERY == 0:
            worker = kills.chance.choice(cluster.workers)
            worker.kill()
            worker.start()
        else:
            kills.kill_one(cluster.workers)
        time.sleep(KILL_EVERY_SECONDS * kills.chance.random() * 2)
