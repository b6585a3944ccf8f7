"""The primary dies in the middle of many runs and its standby is promoted: no decision is lost, no call runs twice."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.nodes.deciding import Deciding, check_decided, wait_until_on
from tests.support.cluster import Cluster
from tests.support.full import IS_FULL
from tests.support.standby import postgres_pair
from unpause.store.engine import migrate

RUNS = 100 if IS_FULL else 16
# What is promised after the promotion; the rest is for a machine with other work.
ON_SECONDS, BUSY_SECONDS = 15.0, 90.0


@pytest.mark.timeout(300)
def test_a_failover_to_a_synchronous_standby_loses_no_decision_and_runs_no_call_twice(tmp_path: Path) -> None:
    with postgres_pair() as pair, Cluster(tmp_path, pair.url(), TEST_WORK_SECONDS="0.5") as cluster:
        migrate.upgrade(pair.url())
        cluster.start(apis=0, workers=0, nodes=2)
        deciding = Deciding(cluster, RUNS)
        deciding.begin()
        deciding.wait_for(RUNS // 3)
        pair.primary.kill()
        time.sleep(1.0)
        pair.standby.promote()
        seconds = wait_until_on(cluster, ON_SECONDS + BUSY_SECONDS)
        deciding.finish()
        wait_until_on(cluster, BUSY_SECONDS)
        in_doubt = check_decided(cluster, deciding)
        output = cluster.output()
    print(f"{RUNS} runs: on {seconds:.1f} s after the promotion, {in_doubt} in doubt, {dict(deciding.statuses)}")  # noqa: T201 - a measurement
    assert "Traceback" not in output
    lines = [line for line in output.splitlines() if "database " in line and "available" in line]
    away, back = (
        sum(event in line for line in lines) for event in ("database unavailable", "database available again")
    )
    # A backend that outlives the postmaster for a moment may answer once more; not each refused request is a line.
    assert 2 <= away == back <= 8, lines


@pytest.mark.full
@pytest.mark.timeout(300)
def test_a_failover_to_an_asynchronous_standby_loses_at_most_the_newest_decisions(tmp_path: Path) -> None:
    """It may lose what was committed just before, as the documents say; what it has is consistent and goes on."""
    with postgres_pair(is_synchronous=False) as pair, Cluster(tmp_path, pair.url(), TEST_WORK_SECONDS="0") as cluster:
        migrate.upgrade(pair.url())
        cluster.start(apis=0, workers=0, nodes=2)
        deciding = Deciding(cluster, RUNS)
        deciding.begin()
        deciding.wait_for(RUNS // 3)
        # From here on the standby receives nothing, as one that lags.
        cut = time.monotonic()
        pair.standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
        pair.standby.execute("SELECT pg_reload_conf()")
        deciding.wait_for(RUNS // 2)
        pair.primary.kill()
        killed = time.monotonic()
        before = {run for run, at in deciding.accepted.items() if at < killed}
        pair.standby.promote()
        decided = "SELECT run_id FROM runs JOIN requirements ON run_key = runs.id WHERE decision = 'confirmed'"
        found = {run for (run,) in cluster.rows(decided)}
        deciding.finish()
        wait_until_on(cluster, ON_SECONDS + BUSY_SECONDS)
        assert cluster.find_gaps() == []
        assert "Traceback" not in cluster.output()
    lost = before - found
    print(f"cut {killed - cut:.2f} s before the kill: {len(lost)} of {len(before)} decisions lost")  # noqa: T201
    assert all(deciding.accepted[run] >= cut for run in lost)
