"""Finds and deletes what has ended long ago, in batches; what waits or runs is never among it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, exists, func, select

from unpause.domain.runs import RunStatus
from unpause.store.tables import runs, sessions

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.engine import Connection

_ENDED = [status.value for status in RunStatus if status.is_final]


def delete_ended_runs(connection: Connection, before: datetime, limit: int, organization_id: int | None) -> list[int]:
    """Delete runs that ended before, with all rows of theirs; return the organization of each.

    Those of a session with a run that has not ended stay: they are the history that it goes on with. So do runs that
    another transaction has locked.
    """
    chosen = _ended_runs(before, organization_id).with_only_columns(runs.c.id, runs.c.organization_id)
    oldest = chosen.order_by(runs.c.ended_at).limit(limit).with_for_update(skip_locked=True, of=runs)
    found = connection.execute(oldest).all()
    connection.execute(delete(runs).where(runs.c.id.in_([row.id for row in found])))
    return [row.organization_id for row in found]


def count_ended_runs(connection: Connection, before: datetime, organization_id: int | None) -> int:
    """Return how many runs ``delete_ended_runs`` would delete in all."""
    chosen = _ended_runs(before, organization_id).with_only_columns(func.count())
    return int(connection.execute(chosen).scalar_one())


def delete_empty_sessions(connection: Connection, before: datetime, limit: int, organization_id: int | None) -> int:
    """Delete sessions that have no run and were last changed before; return how many."""
    empty: list[ColumnElement[bool]] = [
        sessions.c.updated_at < before,
        ~exists().where(runs.c.session_key == sessions.c.id),
        *([sessions.c.organization_id == organization_id] if organization_id is not None else []),
    ]
    found = connection.execute(
        select(sessions.c.id).where(*empty).limit(limit).with_for_update(skip_locked=True)
    ).scalars()
    return connection.execute(delete(sessions).where(sessions.c.id.in_(found.all()))).rowcount


def _ended_runs(before: datetime, organization_id: int | None) -> Select[Any]:
    others = runs.alias()
    unfinished = exists().where(others.c.session_key == runs.c.session_key, others.c.status.not_in(_ENDED))
    chosen = select(runs).where(runs.c.ended_at < before, runs.c.status.in_(_ENDED), ~unfinished)
    return chosen if organization_id is None else chosen.where(runs.c.organization_id == organization_id)
