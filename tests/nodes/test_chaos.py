"""Workers die at random and new ones come: no run is lost, no finished call runs again, no event is missing."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from tests.nodes.load import begin, begin_many, check_runs, script_of, wait_until_settled
from tests.processes.conversation import read_settled_run
from tests.support.cluster import Cluster, start_all, wait_until
from tests.support.full import IS_FULL
from tests.support.processes import ServerProcess

RUNS, CALLS, WORK_SECONDS, CHAOS_SECONDS = (200, 40, 1.5, 60.0) if IS_FULL else (8, 3, 0.8, 2.0)
WORKERS = 3 if IS_FULL else 2
KILL_EVERY_SECONDS = 4.0 if IS_FULL else 1.0

# With default settings in the long form; on a machine that does much else there is no telling.
RECOVERY_SECONDS = 15.0 if IS_FULL else 60.0
LEASES = () if IS_FULL else ("--lease-seconds", "2", "--sweep-seconds", "0.5")


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker that was killed, and when."""

    pid: int
    at: float


@pytest.mark.timeout(600)
def test_workers_killed_at_random_lose_no_run_and_run_nothing_twice(new_cluster: Callable[..., Cluster]) -> None:
    # So many at once that every worker has some.
    cluster = new_cluster("--max-running", str(RUNS // WORKERS + 2), *LEASES, TEST_WORK_SECONDS=str(WORK_SECONDS))
    cluster.start(apis=2 if IS_FULL else 1, workers=WORKERS)
    begin_many(cluster, [script_of(number, CALLS) for number in range(RUNS)])
    kills = _kill_at_random(cluster)
    wait_until_settled(cluster, 300)
    statuses = check_runs(cluster)
    assert statuses.total() == RUNS
    slowest, cut = _recoveries(cluster, kills)
    print(f"{len(kills)} kills cut {cut} calls; {dict(statuses)}; recovery began after at most {slowest:.1f} s")  # noqa: T201 - a measurement
    assert cut, "no kill cut a call: nothing was tested"
    assert slowest < RECOVERY_SECONDS


def _kill_at_random(cluster: Cluster) -> list[Kill]:
    """Kill a worker every few seconds, with a new one on its way meanwhile."""
    chance = random.Random(5)  # noqa: S311 - nothing secret
    kills: list[Kill] = []
    end = time.monotonic() + CHAOS_SECONDS
    with ThreadPoolExecutor(1) as thread:
        while time.monotonic() < end:
            started = time.monotonic()
            new = cluster.new_worker()
            starting: Future[None] = thread.submit(start_all, [new])
            busy = wait_until(lambda: _busy(cluster), "some worker is in the middle of a call")
            victim = chance.choice(busy)
            cluster.workers.remove(victim)
            kills.append(Kill(victim.pid, time.time()))
            victim.kill()
            starting.result()
            cluster.workers.append(new)
            time.sleep(max(0.0, started + KILL_EVERY_SECONDS - time.monotonic()))
    return kills


def _busy(cluster: Cluster) -> list[ServerProcess]:
    """Return the workers that are in the middle of a call."""
    calls = Counter[int]()
    for line in cluster.noted():
        calls[line.pid] += 1 if line.what == "began" else -1
    return [worker for worker in cluster.workers if calls[worker.pid] > 0]


def _recoveries(cluster: Cluster, kills: list[Kill]) -> tuple[float, int]:
    """Return after how many seconds, at most, somebody went on with what a kill had cut, and how many that was."""
    lines = cluster.noted()
    asked = dict(
        cluster.rows(
            "SELECT tool_args->>'name', extract(epoch FROM created_at)::float FROM requirements WHERE in_doubt"
        )
    )
    slowest, cut = 0.0, 0
    for kill in kills:
        mine = [line for line in lines if line.pid == kill.pid]
        open_calls = {line.name for line in mine if line.what == "began"} - {
            line.name for line in mine if line.what == "ended"
        }
        cut += len(open_calls)
        went_on = [asked[name] for name in open_calls if name in asked]
        went_on += [line.at for line in lines if line.what == "began" and line.name in open_calls and line.at > kill.at]
        if went_on:
            slowest = max(slowest, min(went_on) - kill.at)
    return slowest, cut


@pytest.mark.full
def test_a_run_that_kills_one_worker_after_the_other_ends_as_an_error(new_cluster: Callable[..., Cluster]) -> None:
    # In processes of their own agents take no worker along: tests/processes/test_agent_processes.py.
    leases = ("--lease-seconds", "2", "--sweep-seconds", "0.5")
    cluster = new_cluster("--max-crashes", "2", *leases, "--agent-processes", "0")
    cluster.start(apis=1, workers=3)
    with cluster.apis[0].client() as client:
        run = begin(client, "die again")
        ended = read_settled_run(client, run)
        # Not before: a run that is beside it in both of its workers would count their deaths as its own.
        beside = begin(client, "rework beside")
        assert read_settled_run(client, beside)["status"] == "COMPLETED"
    assert ended["status"] == "ERROR"
    assert ended["content"] == "The run's worker died 2 times while it executed the run"
    assert cluster.rows("SELECT end_reason, crashes, fence FROM runs WHERE run_id = %s", run["run_id"]) == [
        ("crashed", 2, 2)
    ]
    assert len(cluster.noted("again")) == 2
    assert sum(worker.has_ended for worker in cluster.workers) == 2
    assert cluster.find_gaps() == []
