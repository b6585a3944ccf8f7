"""One organization's many runs starve nobody else's one, and take no more places than they may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sqlalchemy import Connection, insert

from tests.nodes.load import wait_until_settled
from tests.support.cluster import Cluster, start_all, wait_until
from unpause.domain.principal import Principal
from unpause.domain.runs import RunInput
from unpause.domain.sessions import NewSession
from unpause.store.engine.schema import plain_engine
from unpause.store.journal import add_input
from unpause.store.runs import insert_run
from unpause.store.sessions import ensure_session
from unpause.store.tables import organizations

MANY, FEW = 1, 2


def add_organization(cluster: Cluster) -> None:
    """Add the organization of the few; there is no API for it yet."""
    engine = plain_engine(cluster.database_url)
    with engine.begin() as connection:
        row = {"id": FEW, "name": "few", "created_at": datetime.now(UTC)}
        connection.execute(insert(organizations), row)


def add_runs(cluster: Cluster, organization: int, scripts: Iterable[str]) -> None:
    """Put runs into the database, as another organization's requests would."""
    engine = plain_engine(cluster.database_url)
    with engine.begin() as connection:
        for script in scripts:
            _add_run(connection, organization, script)


def _add_run(connection: Connection, organization: int, script: str) -> None:
    now, session_id = datetime.now(UTC), str(uuid4())
    session = ensure_session(connection, Principal(organization), NewSession(session_id, "scripted"), now)
    values = {
        "run_id": str(uuid4()),
        "organization_id": organization,
        "session_key": session.key,
        "session_id": session_id,
        "agent_id": "scripted",
        "source_type": "API",
        "prompt": script,
        "created_at": now,
        "updated_at": now,
    }
    run = insert_run(connection, values)
    add_input(connection, run.id, RunInput(0, script), None, now)


@pytest.mark.full
def test_a_single_run_does_not_wait_for_another_organizations_thousand(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster("--max-running", "4", TEST_WORK_SECONDS="0.3")
    add_organization(cluster)
    add_runs(cluster, MANY, (f"work {number}-0" for number in range(1000)))
    add_runs(cluster, FEW, ["work few-0"])
    worker = cluster.new_worker()
    start_all([worker])
    wait_until(lambda: cluster.noted("few-0"), "the one run begins")
    begun_before = sum(line.what == "began" for line in cluster.noted())
    assert begun_before < 40, "hundreds were there before it, and it did not wait for them"
    wait_until(lambda: len(cluster.noted("few-0")) == 2, "the one run ends")
    # One that comes later, while all places are taken.
    add_runs(cluster, FEW, ["work late-0"])
    at_once = sum(line.what == "began" for line in cluster.noted())
    wait_until(lambda: cluster.noted("late-0"), "the late run begins")
    assert sum(line.what == "began" for line in cluster.noted()) - at_once < 40


@pytest.mark.full
def test_no_organization_has_more_runs_at_once_than_it_may(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster("--max-running-per-organization", "3", TEST_WORK_SECONDS="0.3")
    add_organization(cluster)
    add_runs(cluster, MANY, (f"rework {number}-0, rework {number}-1" for number in range(9)))
    add_runs(cluster, FEW, (f"rework {number}-0, rework {number}-1" for number in range(100, 103)))
    start_all([cluster.new_worker() for _ in range(3)])
    wait_until_settled(cluster, 120)
    most = {MANY: 0, FEW: 0}
    running: Counter[int] = Counter()
    for line in cluster.noted():
        organization = FEW if int(line.name.partition("-")[0]) >= 100 else MANY
        running[organization] += 1 if line.what == "began" else -1
        most[organization] = max(most[organization], running[organization])
    assert 2 <= most[MANY] <= 3
    assert 1 <= most[FEW] <= 3
    assert cluster.statuses() == {"COMPLETED": 12}
