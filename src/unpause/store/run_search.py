"""Searches the runs of an organization: a page of keys from an index first, then the rows of that page."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, func, or_, select, union_all

from unpause.domain.run_search import FoundRun, FoundRuns
from unpause.domain.runs import EndReason, RunStatus
from unpause.store.run_queue import has_status
from unpause.store.tables import requirements, runs, sessions
from unpause.store.unreadable import read_rows
from unpause.store.visibility import visible_to

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Column, ColumnElement, Subquery
    from sqlalchemy.engine import Connection

    from unpause.domain.principal import Visibility
    from unpause.domain.run_search import RunSearch
    from unpause.store.engine.statements import Record

# A page looks for a text in so many runs at most: no index finds a part of a prompt.
_MAX_EXAMINED = 10_000
_PROMPT_CHARACTERS = 200
_ERROR_CHARACTERS = 300
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEY = re.compile(r"[0-9]{1,18}")

_PLAIN = (
    *(runs.c.id, runs.c.run_id, runs.c.agent_id, runs.c.session_id, runs.c.user_id, runs.c.source_type),
    *(runs.c.created_at, runs.c.updated_at, runs.c.ended_at),
)
_FAILED = (RunStatus.ERROR.value, RunStatus.CANCELLED.value)
_LISTED = (
    *_PLAIN,
    runs.c.status,
    runs.c.end_reason,
    func.substr(runs.c.prompt, 1, _PROMPT_CHARACTERS).label("prompt"),
    case((runs.c.status.in_(_FAILED), func.substr(runs.c.content, 1, _ERROR_CHARACTERS))).label("error"),
)
_WAITING = (
    select(requirements.c.run_key, func.count().label("open"), func.min(requirements.c.created_at).label("since"))
    .where(requirements.c.status == "open")
    .group_by(requirements.c.run_key)
)


def search_runs(
    connection: Connection, visibility: Visibility, agents: frozenset[str] | None, search: RunSearch
) -> FoundRuns:
    """Return a page of the visible runs of these agents, newest first; None means all agents."""
    conditions = [*visible_to(runs, visibility), *_conditions(visibility, agents, search)]
    if search.text is None or _names_one(search.text):
        newest = _newest((runs.c.id,), conditions, search.statuses, search.limit + 1)
        keys = list(connection.execute(select(newest.c.id).order_by(newest.c.id.desc())).scalars())
        last = None
    else:
        keys, last = _examine(connection, conditions, search)
    if len(keys) > search.limit:
        keys = keys[: search.limit]
        last = keys[-1]
    return FoundRuns(list_found(connection, keys), last)


def list_found(connection: Connection, keys: Sequence[int]) -> list[FoundRun]:
    """Return these runs as a list shows them, newest first; those that cannot be read are left out."""
    if not keys:
        return []
    query = select(*_LISTED).where(runs.c.id.in_(keys)).order_by(runs.c.id.desc())
    found = read_rows(connection, query, runs.c.id, _found)
    paused = [run.id for run in found if run.status is RunStatus.PAUSED]
    waiting = _list_waiting(connection, paused) if paused else {}
    # A run that was paused on request waits for nothing, but since then.
    return [
        replace(run, open_requirements=waiting.get(run.id, (0, None))[0], waiting_since=_since(run, waiting))
        for run in found
    ]


def _since(run: FoundRun, waiting: dict[int, tuple[int, datetime]]) -> datetime | None:
    if run.status is not RunStatus.PAUSED:
        return None
    return waiting[run.id][1] if run.id in waiting else run.updated_at


def _list_waiting(connection: Connection, keys: Sequence[int]) -> dict[int, tuple[int, datetime]]:
    rows = connection.execute(_WAITING.where(requirements.c.run_key.in_(keys)))
    return {row.run_key: (row.open, row.since) for row in rows}


def _conditions(visibility: Visibility, agents: frozenset[str] | None, search: RunSearch) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if agents is not None:
        conditions.append(runs.c.agent_id.in_(sorted(agents)))
    if search.agent_id is not None:
        conditions.append(runs.c.agent_id == search.agent_id)
    if search.user_id is not None:
        conditions.append(runs.c.user_id == search.user_id)
    if search.session_id is not None:
        named = (sessions.c.organization_id == visibility.organization_id, sessions.c.session_id == search.session_id)
        conditions.append(runs.c.session_key == select(sessions.c.id).where(*named).scalar_subquery())
    if search.since is not None:
        conditions.append(runs.c.created_at >= search.since)
    if search.until is not None:
        conditions.append(runs.c.created_at < search.until)
    if search.before is not None:
        conditions.append(runs.c.id < search.before)
    if search.text is not None and (exact := _names_one(search.text)) is not None:
        conditions.append(exact)
    return conditions


def _names_one(text: str) -> ColumnElement[bool] | None:
    """Return the condition of a text that is the UUID of a run."""
    return runs.c.run_id == text.lower() if _UUID.fullmatch(text.lower()) else None


def _newest(
    columns: Sequence[Column[Any]],
    conditions: Sequence[ColumnElement[bool]],
    statuses: frozenset[RunStatus],
    limit: int,
) -> Subquery:
    """Return the newest runs, the first of the columns being the key: each status from its own range of the index."""
    newest = select(*columns).where(*conditions).order_by(runs.c.id.desc()).limit(limit)
    if not statuses:
        return newest.subquery()
    parts = [newest.where(has_status(status)).subquery() for status in sorted(statuses)]
    if len(parts) == 1:
        return parts[0]
    every = union_all(*(select(part) for part in parts)).subquery()
    return select(every).order_by(every.c.id.desc()).limit(limit).subquery()


def _examine(
    connection: Connection, conditions: Sequence[ColumnElement[bool]], search: RunSearch
) -> tuple[list[int], int | None]:
    """Return the keys of runs with the text, and the last key that was looked at where there are more to look at."""
    text = search.text or ""
    columns = (runs.c.id, runs.c.run_id, runs.c.prompt)
    newest = _newest(columns, conditions, search.statuses, _MAX_EXAMINED)
    matches = [
        newest.c.prompt.icontains(text, autoescape=True),
        newest.c.run_id.startswith(text.lower(), autoescape=True),
    ]
    if _KEY.fullmatch(text):
        matches.append(newest.c.id == int(text))
    query = select(newest.c.id).where(or_(*matches)).order_by(newest.c.id.desc()).limit(search.limit + 1)
    keys = list(connection.execute(query).scalars())
    if len(keys) > search.limit:
        return keys, None
    count, last = connection.execute(select(func.count(), func.min(newest.c.id))).one()
    return keys, last if count == _MAX_EXAMINED else None


def _found(row: Record) -> FoundRun:
    return FoundRun(
        status=RunStatus(row["status"]),
        end_reason=EndReason(row["end_reason"]) if row["end_reason"] else None,
        prompt=row["prompt"],
        error=row["error"],
        **{column.name: row[column.name] for column in _PLAIN},
    )
