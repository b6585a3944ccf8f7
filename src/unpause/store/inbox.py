"""What waits for people in all runs of an organization, and what changed there."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from sqlalchemy import Text, and_, case, cast, exists, false, func, not_, or_, select, true, tuple_, union

from unpause.domain.deciders import USER_ENTRY
from unpause.domain.inbox import ChangePosition, InboxFilter, InboxPosition, Request, RequirementStatus, RunHead
from unpause.domain.json import dump_json
from unpause.domain.runs import SETUP_COMMANDS, RunStatus, TranscriptEntry
from unpause.lazy import BUILT_LATE
from unpause.store.engine.dialects import json_texts, unindexed
from unpause.store.requirements import REQUIREMENT, read_requirement
from unpause.store.tables import approvals, messages, requirements, runs
from unpause.store.unreadable import read_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from sqlalchemy import Column, ColumnElement, Select
    from sqlalchemy.engine import Connection, RowMapping

    from unpause.domain.deciders import ApproverEntries

_ENTRIES = TypeAdapter(tuple[TranscriptEntry, ...], config=BUILT_LATE)
_RUN = ("run_id", "session_id", "agent_id", "user_id", "source_type")
_REQUESTS = (
    select(
        *REQUIREMENT,
        requirements.c.status.label("request_status"),
        requirements.c.organization_id,
        requirements.c.updated_at,
        *(runs.c[name] for name in _RUN),
        runs.c.status.label("run_status"),
    )
    .join(runs, runs.c.id == requirements.c.run_key)
    .outerjoin(approvals, approvals.c.id == requirements.c.id)
)
_OPEN = requirements.c.status == RequirementStatus.OPEN.value
_FOUR_EYES = requirements.c.deciders["four_eyes"].as_boolean().is_(True)
_QUORUM = func.coalesce(requirements.c.deciders["quorum"].as_integer(), 1)
_APPROVER = json_texts(requirements.c.deciders["approvers"])
_VOTES = cast(requirements.c.votes, Text)
_IS_APPROVAL = requirements.c.approval == "required"
_AWAITS_APPROVAL = and_(
    _IS_APPROVAL,
    or_(approvals.c.status.is_(None), approvals.c.status == "pending"),
)
# An earlier decision is looked for among so many of the newest changes.
_NEWEST = 1000
_LAST_MESSAGES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Whose requests a query finds, in terms of columns.

    ``user_id`` and ``session_id`` are those that the runs must have, None for any; ``reads`` and ``runs`` the agents
    that the caller may read and run, None for all; ``decider`` is the caller's name. Rules of who decides name the
    caller by ``entries``; ``scope_entries`` are those of its scopes.
    """

    organization_id: int
    user_id: str | None
    session_id: str | None
    decider: str | None
    reads: frozenset[str] | None
    runs: frozenset[str] | None
    approves: bool
    reads_approvals: bool
    may_set_up: bool
    entries: ApproverEntries
    scope_entries: ApproverEntries


def list_open(
    connection: Connection,
    viewer: Viewer,
    selection: InboxFilter,
    now: datetime,
    after: InboxPosition | None,
    limit: int,
) -> list[Request]:
    """Return up to ``limit`` requests after a position, oldest first: open ones, unless the selection names ids.

    Those of ``selection`` that the viewer sees; of these a few may turn out not to be the viewer's to decide, or to be
    so after all.
    """
    conditions = [
        *(_waiting(viewer, now) if selection.id_prefix is None else _named(viewer, selection.id_prefix)),
        *_selected(selection),
        {"mine": _mine(viewer), "others": _others(viewer), "all": _may_read(viewer)}[selection.whose.value],
    ]
    if after is not None:
        place = tuple_(requirements.c.created_at, requirements.c.id)
        conditions.append(place > tuple_(after.created_at, after.requirement_id))
    query = _REQUESTS.where(*conditions).order_by(requirements.c.created_at, requirements.c.id).limit(limit)
    return _read(connection, query)


def find_request(connection: Connection, organization_id: int, requirement_id: str) -> Request | None:
    """Return a request of the organization, open or not."""
    query = _REQUESTS.where(requirements.c.id == requirement_id, runs.c.organization_id == organization_id)
    return next(iter(_read(connection, query)), None)


def list_of_runs(connection: Connection, run_keys: Collection[int], since: datetime) -> list[Request]:
    """Return the requests of these runs that have changed since then, of every organization."""
    query = _REQUESTS.where(requirements.c.run_key.in_(run_keys), requirements.c.updated_at >= since)
    return _read(connection, query.order_by(requirements.c.updated_at, requirements.c.id))


def list_changed(
    connection: Connection, organization_id: int, since: datetime, after: ChangePosition | None, limit: int
) -> list[Request]:
    """Return requests of an organization that have changed since then, in the order of their changes."""
    conditions = [requirements.c.organization_id == organization_id, requirements.c.updated_at >= since]
    if after is not None:
        place = tuple_(requirements.c.updated_at, requirements.c.id)
        conditions.append(place > tuple_(after.updated_at, after.requirement_id))
    query = _REQUESTS.where(*conditions).order_by(requirements.c.updated_at, requirements.c.id).limit(limit)
    return _read(connection, query)


def list_earlier(connection: Connection, request: Request, viewer: Viewer, limit: int) -> list[Request]:
    """Return the last decisions on the tool of a request: those that the viewer made, or sees the run of."""
    newest = (
        select(requirements.c.id, requirements.c.tool_name, requirements.c.decision)
        .where(requirements.c.organization_id == viewer.organization_id)
        .order_by(requirements.c.updated_at.desc())
        .limit(_NEWEST)
        .subquery()
    )
    of_tool = select(newest.c.id).where(
        newest.c.tool_name == request.requirement.tool_name,
        newest.c.decision.is_not(None),
        newest.c.id != request.requirement.id,
    )
    names = list(connection.execute(of_tool).scalars())
    if not names:
        return []
    query = (
        _REQUESTS.where(
            requirements.c.id.in_(names),
            runs.c.agent_id == request.run.agent_id,
            or_(and_(*_visible(viewer), _among(viewer.reads)), _is_by(viewer)),
        )
        .order_by(requirements.c.updated_at.desc(), requirements.c.run_key.desc(), requirements.c.position.desc())
        .limit(limit)
    )
    return _read(connection, query)


def list_last_messages(
    connection: Connection, run_keys: Collection[int], count: int = _LAST_MESSAGES
) -> dict[int, tuple[TranscriptEntry, ...]]:
    """Return the last messages of each run, oldest first."""
    if not run_keys:
        return {}
    other = messages.alias("others")
    last = select(func.max(other.c.position)).where(other.c.run_key == messages.c.run_key).scalar_subquery()
    query = (
        select(messages.c.run_key, messages.c.entries)
        .where(messages.c.run_key.in_(run_keys), messages.c.position > last - count)
        .order_by(messages.c.run_key, messages.c.position)
    )
    found: defaultdict[int, tuple[TranscriptEntry, ...]] = defaultdict(tuple)
    for row in connection.execute(query):
        found[row.run_key] += _ENTRIES.validate_python(row.entries)
    return found


def _waiting(viewer: Viewer, now: datetime) -> list[ColumnElement[bool]]:
    return [
        _OPEN,
        requirements.c.organization_id == viewer.organization_id,
        or_(requirements.c.expires_at.is_(None), requirements.c.expires_at > now),
    ]


def _named(viewer: Viewer, prefix: str) -> list[ColumnElement[bool]]:
    """Return the conditions of a request whose id, or whose run's id, begins so."""
    of_run = select(requirements.c.id).join(runs, runs.c.id == requirements.c.run_key)
    ids = union(
        select(requirements.c.id).where(*_begins(requirements.c.id, prefix)),
        of_run.where(*_begins(runs.c.run_id, prefix)),
    )
    return [requirements.c.id.in_(ids), unindexed(runs.c.organization_id) == viewer.organization_id]


def _begins(column: Column[str], prefix: str) -> list[ColumnElement[bool]]:
    # A range, for which an index of any collation serves: no id has a `g`. Whatever LIKE needs differs.
    return [column >= prefix, column < f"{prefix}g", func.substr(column, 1, len(prefix)) == prefix]


def _selected(selection: InboxFilter) -> list[ColumnElement[bool]]:
    values = {
        runs.c.agent_id: selection.agent_id,
        requirements.c.tool_name: selection.tool_name,
        runs.c.user_id: selection.started_by,
        runs.c.session_id: selection.session_id,
        requirements.c.in_doubt: selection.in_doubt,
    }
    conditions = [column == value for column, value in values.items() if value is not None]
    if selection.created_before is not None:
        conditions.append(requirements.c.created_at <= selection.created_before)
    if selection.expires_before is not None:
        conditions.append(requirements.c.expires_at <= selection.expires_before)
    return conditions


def _visible(viewer: Viewer) -> list[ColumnElement[bool]]:
    """Return the conditions for runs that the viewer may know of, without those about agents."""
    conditions: list[ColumnElement[bool]] = [true()]
    if viewer.user_id is not None:
        conditions.append(runs.c.user_id == viewer.user_id)
    if viewer.session_id is not None:
        conditions.append(runs.c.session_id == viewer.session_id)
    return conditions


def _among(agents: frozenset[str] | None) -> ColumnElement[bool]:
    return true() if agents is None else _one_of(runs.c.agent_id, agents)


def _one_of(column: ColumnElement[Any], values: Iterable[str]) -> ColumnElement[bool]:
    names = sorted(values)
    return and_(column.is_not(None), column.in_(names)) if names else false()


def _names(entries: ApproverEntries) -> ColumnElement[bool]:
    """Return whether the rules of the request name somebody by one of these entries."""
    entry = _APPROVER.c.value
    ways = [_one_of(entry, entries.texts)]
    if entries.every_scope:
        # Not LIKE, which on SQLite takes upper case for lower case.
        ways.append(and_(func.replace(entry, ":", "") != entry, func.substr(entry, 1, len(USER_ENTRY)) != USER_ENTRY))
    return exists(select(_APPROVER.c.value).where(or_(*ways)))


def _is_by(viewer: Viewer) -> ColumnElement[bool]:
    return false() if viewer.decider is None else requirements.c.decided_by == viewer.decider


def _may_read(viewer: Viewer) -> ColumnElement[bool]:
    """Return whether the viewer may read the request: that of a run it sees, or one that it is named for."""
    in_session = true() if viewer.session_id is None else runs.c.session_id == viewer.session_id
    ways = [and_(*_visible(viewer), _among(viewer.reads)), and_(in_session, _names(viewer.entries))]
    if viewer.approves:
        ways.append(and_(in_session, _IS_APPROVAL))
    elif viewer.reads_approvals:
        ways.append(and_(*_visible(viewer), _IS_APPROVAL))
    return or_(*ways)


def _mine(viewer: Viewer) -> ColumnElement[bool]:
    """Return whether the viewer is one of those who may decide the request, and has not confirmed it yet."""
    in_session = true() if viewer.session_id is None else runs.c.session_id == viewer.session_id
    may_run = and_(_among(viewer.runs), or_(and_(*_visible(viewer)), _names(viewer.entries)))
    approves = true() if viewer.approves else false()
    conditions = [
        in_session,
        case((_AWAITS_APPROVAL, approves), else_=or_(may_run, _names(viewer.scope_entries))),
        or_(not_(exists(select(_APPROVER.c.value).where(_APPROVER.c.value.is_not(None)))), _names(viewer.entries)),
        *_four_eyes_and_quorum(viewer),
    ]
    if not viewer.may_set_up:
        conditions.append(runs.c.source_type != SETUP_COMMANDS)
    return and_(*conditions)


def _four_eyes_and_quorum(viewer: Viewer) -> list[ColumnElement[bool]]:
    """Return the conditions of four eyes and quorum, as far as columns tell."""
    if viewer.decider is None:
        # What follows an approval is no further vote.
        return [not_(_FOUR_EYES), or_(_QUORUM <= 1, approvals.c.status == "approved")]
    # Not LIKE, which on SQLite takes upper case for lower case.
    confirmed = f'"by":{dump_json(viewer.decider)}'
    is_new = or_(requirements.c.votes.is_(None), func.replace(_VOTES, confirmed, "") == _VOTES)
    is_second = and_(runs.c.user_id.is_not(None), runs.c.user_id != viewer.decider)
    return [or_(_QUORUM <= 1, is_new), or_(not_(_FOUR_EYES), is_second)]


def _others(viewer: Viewer) -> ColumnElement[bool]:
    return and_(_may_read(viewer), _mine(viewer).is_not(true()))


def _read(connection: Connection, query: Select[Any]) -> list[Request]:
    return read_rows(connection, query, requirements.c.id, _request)


def _request(row: RowMapping) -> Request:
    run = RunHead(
        id=row["run_key"],
        organization_id=row["organization_id"],
        status=RunStatus(row["run_status"]),
        **{name: row[name] for name in _RUN},
    )
    return Request(read_requirement(row), run, RequirementStatus(row["request_status"]), row["updated_at"])
