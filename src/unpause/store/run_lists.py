"""Lists and counts runs: an organization's, a session's, those that have not ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, func, or_, select

from unpause.domain.runs import RunFilter
from unpause.store.paging import paged
from unpause.store.runs import read_run
from unpause.store.tables import runs
from unpause.store.unreadable import read_rows
from unpause.store.visibility import visible_to

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

    from unpause.domain.paging import Page
    from unpause.domain.principal import Visibility
    from unpause.domain.runs import EndReason, Run, RunSelection, RunStatus

_ANY = RunFilter()


def count_runs(connection: Connection, organization_id: int, since: datetime) -> int:
    """Return how many runs the organization has made since then."""
    query = select(func.count()).where(runs.c.organization_id == organization_id, runs.c.created_at >= since)
    return int(connection.execute(query).scalar_one())


def list_runs(
    connection: Connection, visibility: Visibility, selection: RunSelection, page: Page
) -> tuple[list[Run], int]:
    """Return a page of the visible runs, newest first, and how many there are in all."""
    conditions = visible_to(runs, visibility)
    if selection.source_type is not None:
        conditions.append(runs.c.source_type == selection.source_type)
    if selection.ends is not None:
        conditions.append(or_(*(_has_end(*pair) for pair in sorted(selection.ends, key=str))))
    if selection.user_id is not None:
        own = runs.c.user_id == selection.user_id
        conditions.append(or_(own, runs.c.user_id.is_(None)) if selection.or_without_user else own)
    query = paged(select(*runs.c).where(*conditions).order_by(runs.c.id.desc()), page)
    counted = select(func.count()).select_from(runs).where(*conditions)
    found = read_rows(connection, query, runs.c.id, read_run)
    return found, int(connection.execute(counted).scalar_one())


def _has_end(status: RunStatus, reason: EndReason | None) -> ColumnElement[bool]:
    is_same = runs.c.end_reason.is_(None) if reason is None else runs.c.end_reason == reason.value
    return and_(runs.c.status == status.value, is_same)


def list_session_runs(
    connection: Connection,
    session_key: int,
    selection: RunFilter = _ANY,
    *,
    limit: int,
    offset: int = 0,
    newest: bool = False,
) -> list[Run]:
    """Return runs of a session, oldest first: the first ones after ``offset``, or the ``newest``."""
    query = select(*runs.c).where(runs.c.session_key == session_key).limit(limit).offset(offset)
    if selection.statuses is not None:
        query = query.where(runs.c.status.in_([status.value for status in selection.statuses]))
    if selection.agent_id is not None:
        query = query.where(runs.c.agent_id == selection.agent_id)
    if selection.since is not None:
        query = query.where(runs.c.created_at >= selection.since)
    if selection.until is not None:
        query = query.where(runs.c.created_at < selection.until)
    query = query.order_by(runs.c.id.desc() if newest else runs.c.id)
    found = read_rows(connection, query, runs.c.id, read_run)
    return found[::-1] if newest else found


def list_unfinished(connection: Connection, status: RunStatus) -> list[int]:
    """Return the keys of all runs of one unfinished status, oldest first, of every organization."""
    return list(
        connection.execute(select(runs.c.id).where(runs.c.status == status.value).order_by(runs.c.id)).scalars()
    )
