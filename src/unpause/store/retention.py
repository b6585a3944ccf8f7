"""Finds and deletes what is over, in batches; what waits or runs is never among it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, delete, exists, func, literal, select

from unpause.domain.retention import RetentionKind, RetentionScope
from unpause.store.engine.dialects import unindexed
from unpause.store.run_queue import FINAL_STATUSES
from unpause.store.tables import (
    audit,
    audit_heads,
    notifications,
    organizations,
    runs,
    sessions,
    webhook_deliveries,
)

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select, Table
    from sqlalchemy.engine import Connection

_OUTBOXES: Final = (webhook_deliveries, notifications)


def is_due(connection: Connection, kind: RetentionKind, scope: RetentionScope, before: datetime) -> bool:
    """Whether there is something of before to delete."""
    if kind is RetentionKind.ENDED_RUNS:
        ended = _ended_runs(before, scope).with_only_columns(literal(1))
        return _has_any(connection, ended, select(literal(1)).where(*_empty(before, scope)))
    if kind is RetentionKind.AUDIT:
        return bool(list_purgeable_chains(connection, scope, before, 1))
    return _has_any(connection, *(select(literal(1)).where(*_finished(table, scope, before)) for table in _OUTBOXES))


def count_due(connection: Connection, kind: RetentionKind, scope: RetentionScope, before: datetime) -> int:
    """Return how many rows of before there are to delete in all."""
    if kind is RetentionKind.ENDED_RUNS:
        queries = [_ended_runs(before, scope).with_only_columns(func.count())]
    elif kind is RetentionKind.AUDIT:
        return _count_purgeable(connection, scope, before)
    else:
        queries = [
            select(func.count()).select_from(table).where(*_finished(table, scope, before)) for table in _OUTBOXES
        ]
    return sum(int(connection.execute(query).scalar_one()) for query in queries)


def delete_ended_runs(connection: Connection, before: datetime, limit: int, scope: RetentionScope) -> list[int]:
    """Delete runs that ended before, with all rows of theirs; return the organization of each.

    Those of a session with a run that has not ended stay: they are the history that it goes on with. So do runs with a
    message that is still to be sent, and those that another transaction has locked.
    """
    # With their sessions, which a create has locked: its run, not committed yet, goes on with their history.
    chosen = _ended_runs(before, scope).join(sessions, sessions.c.id == runs.c.session_key)
    order = runs.c.ended_at if scope.organization_id is None else runs.c.created_at
    oldest = chosen.with_only_columns(runs.c.id).order_by(order).limit(limit)
    keys = connection.execute(oldest.with_for_update(skip_locked=True, of=(runs, sessions))).scalars().all()
    # Again: a create may have been committed since the query began.
    still = _ended_runs(before, RetentionScope()).where(runs.c.id.in_(keys))
    found = connection.execute(still.with_only_columns(runs.c.id, runs.c.run_id, runs.c.organization_id)).all()
    # Messages to others are of no run's row: they may outlive a run that somebody deletes.
    for table in _OUTBOXES:
        connection.execute(delete(table).where(table.c.run_id.in_([row.run_id for row in found])))
    connection.execute(delete(runs).where(runs.c.id.in_([row.id for row in found])))
    return [row.organization_id for row in found]


def delete_empty_sessions(connection: Connection, before: datetime, limit: int, scope: RetentionScope) -> int:
    """Delete sessions that have no run and were last changed before; return how many."""
    empty = select(sessions.c.id).where(*_empty(before, scope)).limit(limit)
    found = connection.execute(empty.with_for_update(skip_locked=True)).scalars()
    return connection.execute(delete(sessions).where(sessions.c.id.in_(found.all()))).rowcount


def delete_finished_messages(connection: Connection, before: datetime, limit: int, scope: RetentionScope) -> int:
    """Delete webhooks and notifications of before that were delivered or given up; return how many."""
    count = 0
    for table in _OUTBOXES:
        chosen = select(table.c.id).where(*_finished(table, scope, before)).order_by(table.c.created_at)
        found = connection.execute(chosen.limit(limit - count).with_for_update(skip_locked=True)).scalars().all()
        connection.execute(delete(table).where(table.c.id.in_(found)))
        count += len(found)
        if count == limit:
            break
    return count


def list_purgeable_chains(
    connection: Connection, scope: RetentionScope, before: datetime, limit: int | None = None
) -> list[int]:
    """Return the organizations whose oldest sealed entry is of before."""
    query = (
        select(audit_heads.c.organization_id)
        .join(
            audit,
            (audit.c.organization_id == audit_heads.c.organization_id)
            & (audit.c.number == audit_heads.c.purged_number + 1),
        )
        .where(audit.c.at < before, *_within(audit_heads, scope))
        .order_by(audit_heads.c.organization_id)
        .limit(limit)
    )
    return list(connection.execute(query).scalars())


def _has_any(connection: Connection, *queries: Select[Any]) -> bool:
    return any(connection.execute(query.limit(1)).first() is not None for query in queries)


def _count_purgeable(connection: Connection, scope: RetentionScope, before: datetime) -> int:
    """Count sealed entries up to the first one of each chain that is not of before: from the oldest on only."""
    stays = (
        select(audit.c.number)
        .where(
            audit.c.organization_id == bindparam("organization"),
            audit.c.number > bindparam("purged"),
            audit.c.at >= before,
        )
        .order_by(audit.c.number)
        .limit(1)
    )
    heads = select(audit_heads.c.organization_id, audit_heads.c.purged_number, audit_heads.c.number)
    count = 0
    for organization_id, purged, last in connection.execute(heads.where(*_within(audit_heads, scope))).all():
        first = connection.execute(stays, {"organization": organization_id, "purged": purged}).scalar()
        # They are numbered without gaps.
        count += (last if first is None else first - 1) - purged
    return count


def _ended_runs(before: datetime, scope: RetentionScope) -> Select[Any]:
    others = runs.alias()
    unfinished = exists().where(others.c.session_key == runs.c.session_key, others.c.status.not_in(FINAL_STATUSES))
    sent = [
        ~exists().where(table.c.run_id == runs.c.run_id, table.c.next_attempt_at.is_not(None)) for table in _OUTBOXES
    ]
    # From the oldest end on: nearly all runs have a final status, and on SQLite all writers wait for a deletion.
    is_final = unindexed(runs.c.status).in_(FINAL_STATUSES)
    if scope.organization_id is None:
        is_old = [runs.c.ended_at < before, *_within(runs, scope)]
    else:
        # Or from its oldest run on: others may keep theirs for longer.
        of_one = (runs.c.organization_id == scope.organization_id, runs.c.created_at < before)
        is_old = [*of_one, unindexed(runs.c.ended_at) < before]
    return select(runs).where(*is_old, is_final, ~unfinished, *sent)


def _empty(before: datetime, scope: RetentionScope) -> list[ColumnElement[bool]]:
    has_no_run = ~exists().where(runs.c.session_key == sessions.c.id)
    # Of each organization from the oldest on, for which there is an index.
    some = select(organizations.c.id)
    if scope.organization_id is not None:
        some = some.where(organizations.c.id == scope.organization_id)
    elif scope.without_own is not None:
        some = some.where(organizations.c[scope.without_own.value].is_(None))
    return [sessions.c.updated_at < before, has_no_run, sessions.c.organization_id.in_(some)]


def _finished(table: Table, scope: RetentionScope, before: datetime) -> list[ColumnElement[bool]]:
    # Nearly all have no next attempt.
    return [table.c.created_at < before, unindexed(table.c.next_attempt_at).is_(None), *_within(table, scope)]


def _within(table: Table, scope: RetentionScope) -> list[ColumnElement[bool]]:
    if scope.organization_id is not None:
        return [unindexed(table.c.organization_id) == scope.organization_id]
    if scope.without_own is None:
        return []
    own = select(organizations.c.id).where(organizations.c[scope.without_own.value].is_not(None))
    return [table.c.organization_id.not_in(own)]
