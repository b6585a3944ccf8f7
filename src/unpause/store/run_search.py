"""Searches the runs of an organization: a page of keys from an index first, then the rows of that page."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, func, literal_column, or_, select, union_all

from unpause.domain.run_search import FoundRun, FoundRuns
from unpause.domain.runs import EndReason, RunStatus
from unpause.store.engine.dialects import unindexed
from unpause.store.run_queue import has_status
from unpause.store.tables import requirements, runs, sessions
from unpause.store.unreadable import read_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.engine import Connection

    from unpause.domain.principal import Visibility
    from unpause.domain.run_search import RunSearch
    from unpause.store.engine.statements import Record

# A page looks for what no index has, such as a part of a prompt, in so many runs at most.
_MAX_EXAMINED = 10_000
_PROMPT_CHARACTERS = 200
_ERROR_CHARACTERS = 300
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEY = re.compile(r"[0-9]{1,18}")

_PLAIN = (
    *(runs.c.id, runs.c.run_id, runs.c.agent_id, runs.c.session_id, runs.c.user_id, runs.c.source_type),
    *(runs.c.created_at, runs.c.updated_at, runs.c.ended_at),
)
_UNFINISHED = frozenset(status for status in RunStatus if not status.is_final)
_FAILED = (RunStatus.ERROR.value, RunStatus.CANCELLED.value)
# Sorted, after those of a time were found: in the order of an index both databases would read all newer runs.
_SORTED = runs.c.id + literal_column("0")
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
    source = _source(connection, visibility, agents, search)
    # What no index has is looked for in so many runs only; the next page goes on there.
    last = _find_end(connection, source) if source.filters else None
    keys = _list_newest(connection, source, search.limit + 1, [] if last is None else [runs.c.id >= last])
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


@dataclass(frozen=True, slots=True)
class _Source:
    """Runs ``within`` a range of one index, in the order of ``order``, and the ``filters`` that it cannot answer.

    With ``statuses`` each of them has its own range.
    """

    within: list[ColumnElement[bool]]
    filters: list[ColumnElement[bool]]
    statuses: Collection[RunStatus] = ()
    order: ColumnElement[int] = runs.c.id


def _source(
    connection: Connection, visibility: Visibility, agents: frozenset[str] | None, search: RunSearch
) -> _Source:
    """Return where to look: in the range that has the fewest runs, by what is known of it."""
    organization = runs.c.organization_id == visibility.organization_id
    among = unindexed(runs.c.organization_id) == visibility.organization_id
    before = [] if search.before is None else [runs.c.id < search.before]
    users = {user for user in (visibility.user_id, search.user_id) if user is not None}
    of_users = [unindexed(runs.c.user_id) == user for user in sorted(users)]
    created = _created(search)
    filters = _filters(agents, search)
    statuses = [unindexed(runs.c.status).in_(sorted(search.statuses))] if search.statuses else []
    of_session = _of_session(visibility, search)
    if search.text is not None and (exact := _names_one(search.text)) is not None:
        return _Source([exact, among, *of_session, *before, *of_users, *created, *statuses, *filters], [])
    filters += [] if search.text is None else [_has_text(search.text)]
    if of_session:
        ranges = search.statuses or tuple(RunStatus)
        return _Source([*of_session, among, *before], [*of_users, *created, *filters], ranges)
    if created and (search.until is not None or not _are_many(connection, [organization, *created, *before])):
        within = [organization, *created, *before, *of_users, *statuses, *filters]
        return _Source(within, [], order=_SORTED)
    created = [unindexed(runs.c.created_at) >= search.since] if search.since is not None else []
    if users and not (search.statuses and search.statuses <= _UNFINISHED):
        own = [runs.c.user_id == user for user in sorted(users)]
        return _Source([organization, *own, *before], [*created, *statuses, *filters])
    return _Source([organization, *before], [*of_users, *created, *filters], search.statuses)


def _of_session(visibility: Visibility, search: RunSearch) -> list[ColumnElement[bool]]:
    if search.session_id is None:
        return []
    named = (sessions.c.organization_id == visibility.organization_id, sessions.c.session_id == search.session_id)
    return [runs.c.session_key == select(sessions.c.id).where(*named).scalar_subquery()]


def _created(search: RunSearch) -> list[ColumnElement[bool]]:
    since = [] if search.since is None else [runs.c.created_at >= search.since]
    return since if search.until is None else [*since, runs.c.created_at < search.until]


def _filters(agents: frozenset[str] | None, search: RunSearch) -> list[ColumnElement[bool]]:
    """Return the conditions for the runs' agents: no index has those of all runs."""
    named = [] if search.agent_id is None else [runs.c.agent_id == search.agent_id]
    return named if agents is None else [*named, runs.c.agent_id.in_(sorted(agents))]


def _names_one(text: str) -> ColumnElement[bool] | None:
    """Return the condition of a text that is the UUID of a run."""
    return runs.c.run_id == text.lower() if _UUID.fullmatch(text.lower()) else None


def _has_text(text: str) -> ColumnElement[bool]:
    matches = [
        runs.c.prompt.icontains(text, autoescape=True),
        runs.c.run_id.startswith(text.lower(), autoescape=True),
    ]
    if _KEY.fullmatch(text):
        matches.append(unindexed(runs.c.id) == int(text))
    return or_(*matches)


def _are_many(connection: Connection, conditions: Sequence[ColumnElement[bool]]) -> bool:
    """Whether so many runs fulfil the conditions that a page must not read all of them."""
    some = select(runs.c.id).where(*conditions).order_by(runs.c.created_at).limit(_MAX_EXAMINED + 1)
    return int(connection.execute(select(func.count()).select_from(some.subquery())).scalar_one()) > _MAX_EXAMINED


def _find_end(connection: Connection, source: _Source) -> int | None:
    """Return the key of the last run that a page may look at; None where it may look at all."""
    last: int | None = connection.execute(_newest(source, [], 1, _MAX_EXAMINED - 1)).scalar()
    return last


def _list_newest(
    connection: Connection, source: _Source, limit: int, conditions: Sequence[ColumnElement[bool]]
) -> list[int]:
    return list(connection.execute(_newest(source, [*source.filters, *conditions], limit)).scalars())


def _newest(source: _Source, conditions: Sequence[ColumnElement[bool]], limit: int, offset: int = 0) -> Select[Any]:
    """Return the query for keys of runs of the source, newest first: each status from its own range of the index."""
    newest = select(runs.c.id).where(*source.within, *conditions).order_by(source.order.desc())
    if not source.statuses:
        return newest.limit(limit).offset(offset)
    parts = (newest.where(has_status(status)).limit(limit + offset).subquery() for status in sorted(source.statuses))
    every = union_all(*(select(part) for part in parts)).subquery()
    return select(every.c.id).order_by(every.c.id.desc()).limit(limit).offset(offset)


def _found(row: Record) -> FoundRun:
    return FoundRun(
        status=RunStatus(row["status"]),
        end_reason=EndReason(row["end_reason"]) if row["end_reason"] else None,
        prompt=row["prompt"],
        error=row["error"],
        **{column.name: row[column.name] for column in _PLAIN},
    )
