"""The queue: which runs are ready to be executed, which have a stale lease, and which are still held."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Integer, and_, bindparam, case, exists, func, literal_column, or_, select, text, tuple_, update

from unpause.domain.runs import SETUP_COMMANDS, RunStatus
from unpause.store.columns import Instant
from unpause.store.engine.dialects import by_database, database_later, database_now, is_shared, lease_parameters
from unpause.store.engine.statements import Statement
from unpause.store.tables import organizations, runs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime, timedelta

    from sqlalchemy import Column, ColumnElement, ScalarSelect, Select
    from sqlalchemy.engine import Connection

    from unpause.domain.nodes import ServedAgents

# As the partial index has it: a bound value would keep PostgreSQL from using that.
IS_PENDING = runs.c.status == literal_column("'PENDING'")
# The statuses of runs that have ended, as they are stored.
FINAL_STATUSES: Final = tuple(status.value for status in RunStatus if status.is_final)
_HAS_STARTED = runs.c.status != literal_column("'PENDING'")

_RUNNING = (
    select(runs.c.organization_id, func.count())
    .where(runs.c.status == RunStatus.RUNNING.value)
    .group_by(runs.c.organization_id)
)


def has_status(status: RunStatus) -> ColumnElement[bool]:
    """Return the condition for runs of this status, with the predicate of the partial index that has them.

    SQLite uses a partial index only where the query repeats its predicate, and that of the PENDING ones only where it
    says something of two of its columns: else it looks through all runs of an organization.
    """
    if status is RunStatus.PENDING:
        return and_(IS_PENDING, runs.c.agent_id >= literal_column("''"))
    return and_(runs.c.status == literal_column(f"'{status.value}'"), _HAS_STARTED)


# The first entry of an index, or none.
_FIRST_PENDING = Statement(
    select(
        by_database(
            func.coalesce(select(func.min(runs.c.organization_id)).where(IS_PENDING).scalar_subquery(), 0) > 0,
            exists().where(IS_PENDING),
        ).label("found")
    )
)


def has_pending(connection: Connection) -> bool:
    """Whether any run is PENDING, of whichever agent."""
    [row] = _FIRST_PENDING.all(connection, {})
    return bool(row["found"])


def _lowest(column: Column[Any], *conditions: ColumnElement[bool]) -> ScalarSelect[Any]:
    return select(func.min(column)).where(IS_PENDING, *conditions).correlate_except(runs).scalar_subquery()


def _lowest_organization(*after: ColumnElement[int]) -> ColumnElement[int]:
    """Return the first organization with PENDING runs, or the first one after another.

    PostgreSQL reads one entry of an index for it. SQLite would read all that are PENDING: it looks organizations up.
    """
    later = [runs.c.organization_id > each for each in after]
    has_any = exists().where(has_status(RunStatus.PENDING), runs.c.organization_id == organizations.c.id)
    looked_up = select(func.min(organizations.c.id)).where(has_any.correlate(organizations))
    looked_up = looked_up.where(*(organizations.c.id > each for each in after)).correlate_except(organizations)
    return by_database(_lowest(runs.c.organization_id, *later), looked_up.scalar_subquery())


def _waiting() -> Select[Any]:
    """Return the query for the organizations and agents of runs that are PENDING, each pair once.

    The next pair is looked up in the index: that takes as many steps as there are pairs, not runs.
    """
    organization, agent = runs.c.organization_id, runs.c.agent_id
    lowest = _lowest_organization()
    first = select(lowest.label("organization"), _lowest(agent, organization == lowest).label("agent")).cte(
        "waiting", recursive=True
    )
    next_agent = _lowest(agent, organization == first.c.organization, agent > first.c.agent)
    next_organization = _lowest_organization(first.c.organization)
    following = select(
        case((next_agent.is_not(None), first.c.organization), else_=next_organization),
        func.coalesce(next_agent, _lowest(agent, organization == next_organization)),
    ).where(first.c.organization.is_not(None))
    waiting = first.union_all(following)
    return select(waiting.c.organization, waiting.c.agent).where(waiting.c.organization.is_not(None))


_WAITING = _waiting()
_OLDEST = (
    select(runs.c.id)
    .where(IS_PENDING, runs.c.organization_id == bindparam("organization"), runs.c.agent_id == bindparam("agent"))
    .order_by(runs.c.id)
    .limit(bindparam("limit", type_=Integer))
)
# By whether these are runs that prepare a repository: such are not for an agent of the same name.
_OLDEST_BY_SOURCE = {
    True: _OLDEST.where(runs.c.source_type == SETUP_COMMANDS),
    False: _OLDEST.where(runs.c.source_type != SETUP_COMMANDS),
}
_PENDING_OF_ONE, _RUNNING_OF_ONE = (
    select(runs.c.id).where(has_status(status), runs.c.organization_id == bindparam("organization"))
    for status in (RunStatus.PENDING, RunStatus.RUNNING)
)
_COUNT_RUNNING = select(func.count()).select_from(_RUNNING_OF_ONE.subquery())
_COUNT_PENDING = select(func.count()).select_from(_PENDING_OF_ONE.limit(bindparam("limit", type_=Integer)).subquery())
# Of the parameter ``organization``: how many runs are PENDING or RUNNING, of the PENDING ones at most ``limit``.
UNFINISHED = (_COUNT_PENDING.scalar_subquery() + _COUNT_RUNNING.scalar_subquery()).label("unfinished")
# No live process has a lease that ends so late: the database's clock has gone back since.
_IS_STALE = or_(
    runs.c.lease_expires_at < database_now(), runs.c.lease_expires_at > database_later("longest", "latest_end")
)
_STALE = Statement(
    select(runs.c.id)
    .where(runs.c.status == RunStatus.RUNNING.value, _IS_STALE)
    .order_by(runs.c.lease_expires_at)
    .limit(bindparam("limit", type_=Integer))
)
_CLOCK = Statement(select(func.clock_timestamp(type_=Instant).label("now")))
_LOCK_STALE = (
    select(runs.c.id)
    .where(
        runs.c.id == bindparam("key"),
        runs.c.status == RunStatus.RUNNING.value,
        _IS_STALE,
    )
    .with_for_update(skip_locked=True)
)
_RENEWED = database_later("lease", "lease_ends")


def list_pending(connection: Connection) -> list[tuple[int, str]]:
    """Return the organizations and agents that have PENDING runs."""
    return [(int(row[0]), str(row[1])) for row in connection.execute(_WAITING)]


def list_ready(connection: Connection, limit: int, per_organization: int | None, served: ServedAgents) -> list[int]:
    """Return up to ``limit`` runs of served agents that are PENDING, oldest first within an organization.

    An organization's turn comes the sooner the fewer of its runs are RUNNING, and never once it has as many as it may.
    """
    running = Counter({int(row[0]): int(row[1]) for row in connection.execute(_RUNNING)})
    agents: defaultdict[int, list[str]] = defaultdict(list)
    for organization, agent_id in list_pending(connection):
        if agent_id in served.names:
            agents[organization].append(agent_id)
    waiting = sorted(agents, key=running.__getitem__)[:limit]
    queues = {each: _oldest(connection, each, agents[each], limit, served)[::-1] for each in waiting}
    ready: list[int] = []
    while len(ready) < limit:
        open_queues = [
            each
            for each, queue in queues.items()
            if queue and (per_organization is None or running[each] < per_organization)
        ]
        if not open_queues:
            break
        organization = min(open_queues, key=running.__getitem__)
        ready.append(queues[organization].pop())
        running[organization] += 1
    return ready


def _oldest(
    connection: Connection, organization_id: int, agents: Iterable[str], limit: int, served: ServedAgents
) -> list[int]:
    """Return the oldest PENDING runs of these agents, each of which is looked up in the index by itself."""
    found: list[int] = []
    for agent_id in agents:
        statement = _OLDEST_BY_SOURCE[agent_id == served.setup_agent]
        parameters = {"organization": organization_id, "agent": agent_id, "limit": limit}
        found.extend(connection.execute(statement, parameters).scalars())
    return sorted(found)[:limit]


_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(7264, CAST(:organization AS integer))")


def has_room(connection: Connection, organization_id: int, limit: int) -> bool:
    """Return whether fewer than ``limit`` runs of the organization are RUNNING.

    No other process claims one before the transaction ends.
    """
    if is_shared(connection):
        connection.execute(_ONE_AT_A_TIME, {"organization": organization_id})
    return int(connection.execute(_COUNT_RUNNING, {"organization": organization_id}).scalar_one()) < limit


def list_stale(connection: Connection, now: datetime, limit: int, longest: timedelta) -> list[int]:
    """Return the runs whose lease has expired, or is longer than the ``longest``; the earliest end first.

    ``now`` is for SQLite.
    """
    return [row["id"] for row in _STALE.all(connection, {**_limits(now, longest), "limit": limit})]


def lock_if_free(connection: Connection, run_key: int) -> bool:
    """Lock the run until the transaction ends; return whether it was free."""
    query = select(runs.c.id).where(runs.c.id == run_key).with_for_update(skip_locked=True)
    return connection.execute(query).scalar() is not None


def lock_if_stale(connection: Connection, run_key: int, now: datetime, longest: timedelta) -> bool:
    """Lock the run as ``lock_if_free`` does, if ``list_stale`` would still return it."""
    return connection.execute(_LOCK_STALE, {**_limits(now, longest), "key": run_key}).scalar() is not None


def _limits(now: datetime, longest: timedelta) -> dict[str, Any]:
    return {"now": now, "longest": longest, "latest_end": now + longest}


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
    [row] = _CLOCK.all(connection, {})
    now: datetime = row["now"]
    return now


def last_sequences(connection: Connection, run_keys: Iterable[int]) -> dict[int, int]:
    """Return how far the logs of these runs have come."""
    query = select(runs.c.id, runs.c.last_sequence).where(runs.c.id.in_(list(run_keys)))
    return {int(row.id): int(row.last_sequence) for row in connection.execute(query)}
