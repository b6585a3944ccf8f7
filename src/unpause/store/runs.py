"""The runs table, and the one UPDATE that changes a run's status."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import and_, bindparam, case, exists, false, func, insert, or_, select, update

from unpause.domain.conflicts import not_paused
from unpause.domain.runs import SETUP_COMMANDS, Continuation, EndReason, Run, RunStatus
from unpause.domain.transitions import TRANSITIONS, Trigger
from unpause.errors import LeaseLost, RunNotFound
from unpause.store.columns import Instant
from unpause.store.engine.changes import note_run
from unpause.store.engine.dialects import database_later, lease_parameters
from unpause.store.engine.statements import Statement
from unpause.store.tables import inputs, notification_channels, runs, webhook_targets
from unpause.store.unreadable import readable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection
    from sqlalchemy.sql.dml import ReturningUpdate

    from unpause.domain.nodes import ServedAgents
    from unpause.domain.principal import Visibility
    from unpause.domain.runs import RunRef
    from unpause.store.engine.statements import Record


# No database has others, and looking one up is an error of the driver instead of an empty result.
_KEYS = range(2**63)


@cache
def _find(name: str, *, locked: bool, owned: bool) -> Statement:
    """Return the query for a run by the column of this name; built once, and only where it is used."""
    query = select(*runs.c).where(
        runs.c[name] == bindparam("name"), runs.c.organization_id == bindparam("organization")
    )
    if owned:
        query = query.where(runs.c.user_id == bindparam("user"))
    return Statement(query.with_for_update() if locked else query)


def _move(
    trigger: Trigger, *, guarded: bool, returned: Iterable[ColumnElement[Any]] = (), then: Trigger | None = None
) -> ReturningUpdate[Any]:
    """Return the UPDATE of a trigger; what else to set comes as parameters of the columns' names.

    ``then`` is a trigger whose source is the target of the first: both in one statement.
    """
    last = then or trigger
    claimed = {"fence": runs.c.fence + 1} if last is Trigger.CLAIM else {}
    sources = TRANSITIONS[trigger].sources
    statement = (
        update(runs)
        .where(runs.c.id == bindparam("key"), or_(*(runs.c.status == source.value for source in sources)))
        .values(status=TRANSITIONS[last].target.value, last_sequence=_RESERVED, **claimed)
    )
    if guarded:
        statement = statement.where(runs.c.fence == bindparam("held"))
    return statement.returning(*(returned or (*runs.c, _HAS_TARGETS, _HAS_INPUTS, _HAS_CHANNELS)))


def _insert(*, claimed: bool) -> Statement:
    """Return the INSERT of a run that is PENDING, or was claimed at once."""
    held = {"fence": 1, "lease_expires_at": _LEASE_ENDS} if claimed else {}
    status = TRANSITIONS[Trigger.CLAIM].target if claimed else RunStatus.PENDING
    return Statement(insert(runs).values(status=status.value, **held).returning(*runs.c))


@cache
def _claim(served: ServedAgents | None, *, leased: bool) -> Statement:
    """Return the UPDATE that claims runs of these agents: a process serves the same ones as long as it lives."""
    claim = _move(Trigger.CLAIM, guarded=False)
    if leased:
        claim = claim.values(lease_expires_at=_LEASE_ENDS)
    if served is None:
        return Statement(claim)
    is_setup = runs.c.source_type == SETUP_COMMANDS
    usual = and_(~is_setup, or_(false(), *(runs.c.agent_id == agent_id for agent_id in sorted(served.agent_ids))))
    setup = and_(is_setup, runs.c.agent_id == served.setup_agent)
    return Statement(claim.where(usual if served.setup_agent is None else or_(usual, setup)))


@cache
def _move_statement(trigger: Trigger, *, guarded: bool) -> Statement:
    return Statement(_move(trigger, guarded=guarded))


# Whether there is anything to read of these; mostly there is not.
_HAS_TARGETS = (
    exists()
    .where(
        webhook_targets.c.organization_id == runs.c.organization_id,
        or_(webhook_targets.c.run_key == runs.c.id, webhook_targets.c.run_key.is_(None)),
    )
    .correlate(runs)
    .label("has_targets")
)
_HAS_INPUTS = exists().where(inputs.c.run_key == runs.c.id, ~inputs.c.consumed).correlate(runs).label("has_inputs")
_HAS_CHANNELS = (
    exists()
    .where(notification_channels.c.organization_id == runs.c.organization_id)
    .correlate(runs)
    .label("has_channels")
)
# Built once: SQLAlchemy takes longer to build a statement anew than SQLite to execute it.
_RESERVED = runs.c.last_sequence + bindparam("reserved")
_LEASE_ENDS = database_later("lease", "lease_ends")
_CONTINUE_AND_CLAIM = Statement(
    _move(Trigger.CONTINUE, guarded=False, then=Trigger.CLAIM).values(lease_expires_at=_LEASE_ENDS)
)
_GIVE_UP = _move(Trigger.GIVE_UP, guarded=False, returned=(runs.c.last_sequence,))
_RESERVE = (
    update(runs)
    .where(runs.c.id == bindparam("key"))
    .values(last_sequence=_RESERVED)
    .returning(runs.c.last_sequence, runs.c.pause_requested_at)
)
# A worker that writes is alive: its write renews the lease where that is due. A busy run's row is locked so often that
# its worker's heartbeat may not find it free for as long as a lease.
_HALF_OVER = runs.c.lease_expires_at < database_later("half_lease", "lease_half_over")
_RENEWED = case((_HALF_OVER, _LEASE_ENDS), else_=runs.c.lease_expires_at)
_RESERVE_HELD = Statement(
    _RESERVE.where(runs.c.fence == bindparam("held"), runs.c.status == RunStatus.RUNNING.value).values(
        lease_expires_at=_RENEWED
    )
)
_REQUEST_PAUSE = (
    update(runs)
    .where(
        runs.c.id == bindparam("key"),
        or_(runs.c.status == RunStatus.PENDING.value, runs.c.status == RunStatus.RUNNING.value),
    )
    .values(pause_requested_at=func.coalesce(runs.c.pause_requested_at, bindparam("now", type_=Instant)))
    .returning(runs.c.id)
)
_COLUMNS = frozenset(runs.c.keys())
_INSERTS = {claimed: _insert(claimed=claimed) for claimed in (False, True)}

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Moved(NamedTuple):
    """A run after a transition: whether webhooks and channels may get a message, and whether it has unread inputs."""

    run: Run
    has_targets: bool
    has_inputs: bool
    has_channels: bool


class Reserved(NamedTuple):
    """Numbers of a log: the ``last`` of them, and whether a pause of the run was requested."""

    last: int
    pause_requested: bool


def insert_run(connection: Connection, values: Mapping[str, Any], lease: timedelta | None = None) -> Run:
    """Add a run in status PENDING and return it; with a ``lease``, claimed for so long in the same statement."""
    if lease is not None:
        values = {**values, **lease_parameters(values["created_at"], lease)}
    return note_run(
        connection, read_run(_INSERTS[lease is not None].all(connection, values)[0]), claimed=lease is not None
    )


def find_run(connection: Connection, visibility: Visibility, ref: RunRef, *, locked: bool = False) -> Run | None:
    """Return the run, or None where no such run is visible; raise RunUnreadable.

    ``locked`` keeps other transactions from changing the run until this one ends; what is read of it afterwards is
    as the last of them left it. SQLite has one writer anyway.
    """
    if ref.id is not None and ref.id not in _KEYS:
        return None
    column, name = ("run_id", ref.run_id) if ref.id is None else ("id", ref.id)
    parameters: dict[str, Any] = {"name": name, "organization": visibility.organization_id}
    owned = visibility.user_id is not None
    if owned:
        parameters["user"] = visibility.user_id
    with readable():
        row = _find(column, locked=locked, owned=owned).first(connection, parameters)
        run = None if row is None else read_run(row)
    return run if run is not None and ref.matches(run) else None


def get_run(connection: Connection, visibility: Visibility, ref: RunRef, *, locked: bool = False) -> Run:
    """Return the run, as ``find_run`` does; raise RunNotFound where no such run is visible."""
    run = find_run(connection, visibility, ref, locked=locked)
    if run is None:
        raise RunNotFound
    return run


def transition(  # noqa: PLR0913 - three of them are rarely passed
    connection: Connection,
    run_key: int,
    trigger: Trigger,
    *,
    fence: int | None = None,
    lease: timedelta | None = None,
    changes: Mapping[str, Any],
    served: ServedAgents | None = None,
) -> Moved:
    """Move the run by the table of transitions: the only UPDATE of ``status`` there is.

    ``changes`` are further columns to set; ``events`` in it is no column but how many numbers of the log to reserve
    (``last_sequence`` of the returned run is the last of them). A claim raises the fence by one, and lasts for the
    ``lease`` from now on: by the database's clock, or on SQLite from ``updated_at``. With ``served`` it takes only runs
    of these agents. A CONTINUE with a ``lease`` is a claim as well: two rows of the table in one statement.

    Raises, having changed nothing, RunNotFound, InvalidTransition, or for a fenced trigger LeaseLost.
    """
    rule = TRANSITIONS[trigger]
    columns = dict(changes)
    parameters: dict[str, Any] = {"key": run_key, "held": fence, "reserved": int(columns.pop("events", 0))}
    # A fenced trigger that presents no fence fits no row.
    statement = _move_statement(trigger, guarded=fence is not None or rule.fenced)
    if trigger is Trigger.CONTINUE and lease is not None:
        statement = _CONTINUE_AND_CLAIM
    elif lease is not None or served is not None:
        statement = _claim(served, leased=lease is not None)
    if lease is not None:
        parameters |= lease_parameters(columns["updated_at"], lease)
    row = statement.first(connection, {**_columns(columns), **parameters})
    if row is None:
        raise _refusal(connection, run_key, fenced=rule.fenced)
    run = note_run(connection, read_run(row), trigger, claimed=trigger is Trigger.CLAIM or lease is not None)
    return Moved(run, bool(row["has_targets"]), bool(row["has_inputs"]), bool(row["has_channels"]))


def give_up(connection: Connection, run_key: int, changes: Mapping[str, Any]) -> int | None:
    """Do the same as ``transition`` for a PENDING run that cannot be read, without reading it.

    Reserves one number of the log and returns it; None where the run is not PENDING any more.
    """
    parameters = {"key": run_key, "reserved": 1, **_columns(changes)}
    last: int | None = connection.execute(_GIVE_UP, parameters).scalar()
    return last


def reserve_sequence(  # noqa: PLR0913 - two of them are rarely passed
    connection: Connection,
    run_key: int,
    fence: int,
    count: int,
    now: datetime,
    *,
    lease: timedelta | None = None,
    usage: Mapping[str, int] | None = None,
    has_progressed: bool = False,
) -> Reserved:
    """Reserve ``count`` numbers of the run's log for the holder of ``fence``; renew a ``lease`` half of which is over.

    ``usage`` is what the run has used so far.

    A run that ``has_progressed`` does not kill its workers: its count of crashes starts again.

    Raises LeaseLost when the run is not RUNNING under that fence any more, so every write of an executor goes
    through here or through ``transition``.
    """
    parameters = {"key": run_key, "held": fence, "reserved": count, "updated_at": now, **lease_parameters(now, lease)}
    if usage is not None:
        parameters["usage"] = usage
    if has_progressed:
        parameters["crashes"] = 0
    row = _RESERVE_HELD.first(connection, parameters)
    if row is None:
        raise LeaseLost("the run is no longer held under this fence")
    return Reserved(row["last_sequence"], pause_requested=row["pause_requested_at"] is not None)


def append_to_log(
    connection: Connection, run_key: int, count: int, now: datetime, changes: Mapping[str, Any] = _NOTHING
) -> int:
    """Reserve ``count`` numbers for events about a run that is not executing; return the last one.

    ``changes`` are further columns to set.
    """
    parameters = {"key": run_key, "reserved": count, "updated_at": now, **_columns(changes)}
    return int(connection.execute(_RESERVE, parameters).scalar_one())


def request_pause(connection: Connection, run_key: int, now: datetime) -> bool:
    """Request a pause of a PENDING or RUNNING run; return whether it is one."""
    return connection.execute(_REQUEST_PAUSE, {"key": run_key, "now": now}).scalar() is not None


def find_by_key(connection: Connection, run_key: int, *, locked: bool = False) -> Run | None:
    """Return the run of any organization, or None: for the server's own work, not for a request."""
    query = select(*runs.c).where(runs.c.id == run_key)
    row = connection.execute(query.with_for_update() if locked else query).mappings().first()
    return None if row is None else read_run(row)


def _columns(changes: Mapping[str, Any]) -> Mapping[str, Any]:
    if unknown := changes.keys() - _COLUMNS:
        raise KeyError(f"runs has no columns {', '.join(sorted(unknown))}")
    return changes


def _refusal(connection: Connection, run_key: int, *, fenced: bool) -> Exception:
    run = find_by_key(connection, run_key)
    if run is None:
        return RunNotFound()
    if fenced:
        return LeaseLost("the run is no longer held under this fence")
    return not_paused(run)


def read_run(row: Record) -> Run:
    """Return the run of a row of the table."""
    continuation = None
    if row["continued_at"] is not None:
        continuation = Continuation(
            at=row["continued_at"],
            by=row["continued_by"],
            via=row["continued_via"],
            decision=row["continued_decision"],
        )
    return Run(
        status=RunStatus(row["status"]),
        end_reason=EndReason(row["end_reason"]) if row["end_reason"] else None,
        continuation=continuation,
        **{name: row[name] for name in _PLAIN},
    )


_PLAIN = {field.name for field in fields(Run)} - {"status", "end_reason", "continuation"}


def find_trace(connection: Connection, run_id: str) -> str | None:
    """Return what is stored of the run's trace; None where it is gone, or nothing is."""
    found: str | None = connection.execute(select(runs.c.trace).where(runs.c.run_id == run_id)).scalar()
    return found
