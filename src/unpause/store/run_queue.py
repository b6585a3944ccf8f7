"""The queue: which runs are ready to be executed, which have a stale lease, and which are still held."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, and_, bindparam, case, func, literal_column, select, text, tuple_, update

from unpause.domain.runs import SETUP_COMMANDS, RunStatus
from unpause.store.engine.dialects import database_later, database_now, is_shared, lease_parameters
from unpause.store.tables import runs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime, timedelta

    from sqlalchemy import Column, ColumnElement, ScalarSelect, Select
    from sqlalchemy.engine import Connection

    from unpause.domain.nodes import ServedAgents

# As the partial index has it: a bound value would keep PostgreSQL from using that.
IS_PENDING = runs.c.status == literal_column("'PENDING'")
_HAS_STARTED = runs.c.status != literal_column("'PENDING'")

_RUNNING = (
    select(runs.c.organization_id, func.count())
    .where(runs.c.status == RunStatus.RUNNING.value)
    .group_by(runs.c.organization_id)
)
_RUNNING_OF_ONE = (
    select(func.count())
    .select_from(runs)
    .where(runs.c.status == RunStatus.RUNNING.value, runs.c.organization_id == bindparam("organization"))
)


def has_status(status: RunStatus) -> ColumnElement[bool]:
    """Return the condition for runs of this status, with the predicate of the partial index that has them.

    SQLite uses a partial index only where the query repeats its predicate.
    """
    if status is RunStatus.PENDING:
        return IS_PENDING
    return and_(runs.c.status == literal_column(f"'{status.value}'"), _HAS_STARTED)


def _lowest(column: Column[Any], *conditions: ColumnElement[bool]) -> ScalarSelect[Any]:
    return select(func.min(column)).where(IS_PENDING, *conditions).correlate_except(runs).scalar_subquery()


def _waiting() -> Select[Any]:
    """Return the query for the organizations and agents of runs that are PENDING, each pair once.

    The next pair is looked up in the index: that takes as many steps as there are pairs, not runs.
    """
    organization, agent = runs.c.organization_id, runs.c.agent_id
    lowest = select(func.min(organization)).where(IS_PENDING).scalar_subquery()
    first = select(lowest.label("organization"), _lowest(agent, organization == lowest).label("agent")).cte(
        "waiting", recursive=True
    )
    next_agent = _lowest(agent, organization == first.c.organization, agent > first.c.agent)
    next_organization = _lowest(organization, organization > first.c.organization)
    following = select(
        case((next_agent.is_not(None), first.c.organization), else_=next_organization),
        func.coalesce(next_agent, _lowest(agent, organization == next_organization)),
    ).where(first.c.organization.is_not(None))
    waiting = first.union_all(following)
    return select(waiting.c.organization, waiting.c.agent).where(waiting.c.organization.is_not(None))


_WAITING = _waiting()
_OF_ONE = (
    select(runs.c.id)
    .where(IS_PENDING, runs.c.organization_id == bindparam("organization"))
    .limit(bindparam("most", type_=Integer))
)
_OLDEST = _OF_ONE.where(runs.c.agent_id == bindparam("agent")).order_by(runs.c.id)
# By whether these are runs that prepare a repository: such are not for an agent of the same name.
_OLDEST_BY_SOURCE = {
    True: _OLDEST.where(runs.c.source_type == SETUP_COMMANDS),
    False: _OLDEST.where(runs.c.source_type != SETUP_COMMANDS),
}
# Of the parameter ``organization``: how many runs are PENDING or RUNNING, of the PENDING ones at most ``most``.
UNFINISHED = (
    select(func.count()).select_from(_OF_ONE.subquery()).scalar_subquery() + _RUNNING_OF_ONE.scalar_subquery()
).label("unfinished")
_STALE = (
    select(runs.c.id)
    .where(runs.c.status == RunStatus.RUNNING.value, runs.c.lease_expires_at < database_now())
    .order_by(runs.c.lease_expires_at)
    .limit(bindparam("most", type_=Integer))
)
_LOCK_STALE = (
    select(runs.c.id)
    .where(
        runs.c.id == bindparam("key"),
        runs.c.status == RunStatus.RUNNING.value,
        runs.c.lease_expires_at < database_now(),
    )
    .with_for_update(skip_locked=True)
)
_RENEWED = database_later("lease", "lease_ends")


def list_pending(connection: Connection) -> list[tuple[int, str]]:
    """Return the organizations and agents that have PENDING runs."""
    return [(int(row[0]), str(row[1])) for row in connection.execute(_WAITING)]


def list_ready(connection: Connection, most: int, per_organization: int | None, served: ServedAgents) -> list[int]:
    """Return up to ``most`` runs of served agents that are PENDING, oldest first within an organization.

    An organization's turn comes the sooner the fewer of its runs are RUNNING, and never once it has as many as it may.
    """
    running = {int(row[0]): int(row[1]) for row in connection.execute(_RUNNING)}
    agents: dict[int, list[str]] = {}
    for one, agent_id in list_pending(connection):
        if agent_id in served.names:
            agents.setdefault(one, []).append(agent_id)
    waiting = sorted(agents, key=lambda one: running.get(one, 0))[:most]
    queues = {one: _oldest(connection, one, agents[one], most, served)[::-1] for one in waiting}
    ready: list[int] = []
    while len(ready) < most:
        open_queues = [
            one
            for one, queue in queues.items()
            if queue and (per_organization is None or running.get(one, 0) < per_organization)
        ]
        if not open_queues:
            break
        one = min(open_queues, key=lambda organization: running.get(organization, 0))
        ready.append(queues[one].pop())
        running[one] = running.get(one, 0) + 1
    return ready


def _oldest(
    connection: Connection, organization_id: int, agents: Iterable[str], most: int, served: ServedAgents
) -> list[int]:
    """Return the oldest PENDING runs of these agents, each of which is looked up in the index by itself."""
    found: list[int] = []
    for agent_id in agents:
        statement = _OLDEST_BY_SOURCE[agent_id == served.setup_agent]
        parameters = {"organization": organization_id, "agent": agent_id, "most": most}
        found.extend(connection.execute(statement, parameters).scalars())
    return sorted(found)[:most]


_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(7264, CAST(:organization AS integer))")


def has_room(connection: Connection, organization_id: int, most: int) -> bool:
    """Return whether fewer than ``most`` runs of the organization are RUNNING.

    No other process claims one before the transaction ends.
    """
    if is_shared(connection):
        connection.execute(_ONE_AT_A_TIME, {"organization": organization_id})
    return int(connection.execute(_RUNNING_OF_ONE, {"organization": organization_id}).scalar_one()) < most


def list_stale(connection: Connection, now: datetime, most: int) -> list[int]:
    """Return the runs whose lease has expired, longest first; ``now`` is for SQLite."""
    return list(connection.execute(_STALE, {"now": now, "most": most}).scalars())


def lock_if_free(connection: Connection, run_key: int) -> bool:
    """Lock the run until the transaction ends; return whether it was free."""
    query = select(runs.c.id).where(runs.c.id == run_key).with_for_update(skip_locked=True)
    return connection.execute(query).scalar() is not None


def lock_if_stale(connection: Connection, run_key: int, now: datetime) -> bool:
    """Lock the run as ``lock_if_free`` does, if its lease is still expired; ``now`` is for SQLite."""
    return connection.execute(_LOCK_STALE, {"key": run_key, "now": now}).scalar() is not None


def renew_leases(
    connection: Connection, held: Collection[tuple[int, int]], lease: timedelta, now: datetime
) -> set[int]:
    """Renew the leases of runs, each with the fence it is held under; return those that were renewed.

    They last for ``lease`` from now on: by the database's clock, or on SQLite from ``now``.

    Locked ones are skipped: to wait for one while others are locked could be a deadlock. ``list_held`` distinguishes
    them from those that are not held any more.
    """
    if not held:
        return set()
    free = select(runs.c.id).where(*_held_as(held)).with_for_update(skip_locked=True)
    renewing = update(runs).where(runs.c.id.in_(free)).values(lease_expires_at=_RENEWED).returning(runs.c.id)
    return set(connection.execute(renewing, lease_parameters(now, lease)).scalars())


def list_held(connection: Connection, held: Collection[tuple[int, int]]) -> set[tuple[int, int]]:
    """Return those runs, each with its fence, that are RUNNING under it."""
    query = select(runs.c.id, runs.c.fence).where(*_held_as(held))
    return {(int(row.id), int(row.fence)) for row in connection.execute(query)}


def _held_as(held: Collection[tuple[int, int]]) -> tuple[ColumnElement[bool], ...]:
    return (tuple_(runs.c.id, runs.c.fence).in_(list(held)), runs.c.status == RunStatus.RUNNING.value)


def read_clock(connection: Connection) -> datetime:
    """Return the time of the database."""
    now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return now


def last_sequences(connection: Connection, run_keys: Iterable[int]) -> dict[int, int]:
    """Return how far the logs of these runs have come."""
    query = select(runs.c.id, runs.c.last_sequence).where(runs.c.id.in_(list(run_keys)))
    return {int(row.id): int(row.last_sequence) for row in connection.execute(query)}
