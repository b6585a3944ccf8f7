"""Agent processes and workers die at random under load: no run is lost, no call runs twice, no event is missing."""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.nodes.load import begin_many, check_runs, script_of, wait_until_settled
from tests.support.agent_processes import agent_processes_of
from tests.support.cluster import Cluster
from tests.support.full import IS_FULL

RUNS, CALLS, WORK_SECONDS, CHAOS_SECONDS = (200, 40, 0.5, 120.0) if IS_FULL else (12, 8, 0.4, 5.0)
KILL_EVERY_SECONDS = 1.0
# Every so many kills take the whole worker.
WORKER_EVERY = 8
RECOVERY_SECONDS = 5.0 if IS_FULL else 30.0


@pytest.mark.timeout(900)
def test_agent_processes_killed_at_random_lose_no_run_and_repeat_no_call(
    new_cluster: Callable[..., Cluster],
) -> None:
    cluster = new_cluster(
        *("--agent-processes", "2", "--max-running", str(RUNS), "--max-crashes", "1000"),
        *("--lease-seconds", "2", "--sweep-seconds", "0.5"),
        TEST_WORK_SECONDS=str(WORK_SECONDS),
    )
    cluster.start(apis=1, workers=2)
    begin_many(cluster, [script_of(number, CALLS) for number in range(RUNS)])
    kills = _kill_at_random(cluster)
    wait_until_settled(cluster, 600)
    statuses = check_runs(cluster)
    assert statuses.total() == RUNS
    recoveries = _recoveries(cluster, kills)
    assert recoveries, "no kill cut a call: nothing was tested"
    median = statistics.median(recoveries)
    print(f"{len(kills)} kills cut {len(recoveries)} calls; {dict(statuses)}; {median:.2f} s to go on, p50")  # noqa: T201 - a measurement
    assert median < RECOVERY_SECONDS


def _kill_at_random(cluster: Cluster) -> list[float]:
    """Kill an agent process every second, and now and then its worker; return the moments of the former."""
    chance = random.Random(7)  # noqa: S311 - nothing secret
    kills: list[float] = []
    end, number = time.monotonic() + CHAOS_SECONDS, 0
    while time.monotonic() < end:
        number += 1
        worker = chance.choice(cluster.workers)
        if IS_FULL and number % WORKER_EVERY == 0:
            worker.kill()
            worker.start()
        elif children := sorted(agent_processes_of(worker.pid)):
            with suppress(ProcessLookupError):
                os.kill(chance.choice(children), signal.SIGKILL)
                kills.append(time.time())
        time.sleep(KILL_EVERY_SECONDS * chance.random() * 2)
    return kills


def _recoveries(cluster: Cluster, kills: list[float]) -> list[float]:
    """Return after how many seconds each call that a kill had cut was begun again, or asked about."""
    went_on = [
        (name, at)
        for name, at in cluster.rows(
            "SELECT tool_args->>'name', extract(epoch FROM created_at)::float FROM requirements WHERE in_doubt"
        )
    ]
    began = Counter[str]()
    for line in cluster.noted():
        if line.what == "began":
            began[line.name] += 1
            if began[line.name] > 1:
                went_on.append((line.name, line.at))
    found = []
    for _, at in went_on:
        before = [kill for kill in kills if kill <= at]
        if before:
            found.append(at - before[-1])
    return found
