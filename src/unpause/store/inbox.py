"""What waits for people in all runs of an organization, and what changed there."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from sqlalchemy import Text, and_, case, cast, false, func, not_, or_, select, true, tuple_

from unpause.domain.inbox import ChangePosition, InboxFilter, InboxPosition, Request, RequirementStatus, RunHead
from unpause.domain.json import dump_json, load_json
from unpause.domain.runs import SETUP_COMMANDS, RunStatus, TranscriptEntry
from unpause.store.requirements import DECIDERS, REQUIREMENT, read_requirement
from unpause.store.run_queue import has_status
from unpause.store.tables import approvals, messages, requirements, runs
from unpause.store.unreadable import read_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.engine import Connection, RowMapping

    from unpause.domain.deciders import Deciders

_ENTRIES = TypeAdapter(tuple[TranscriptEntry, ...])
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
# The rules as text: few tools have rules of their own, so their texts are few, whatever waits.
_DECIDERS = cast(requirements.c.deciders, Text)
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
    that the caller may read and run, None for all; ``decider`` is the caller's name.

    The rest is about rules of who decides, as text: ``excluded`` name others, ``named`` the caller, ``by_scope`` one of
    its scopes; ``four_eyes`` exclude the user of the run, ``quorum`` need several people.
    """

    organization_id: int
    user_id: str | None
    session_id: str | None
    decider: str | None
    reads: frozenset[str] | None
    runs: frozenset[str] | None
    approves: bool
    reads_approvals: bool
    prepares: bool
    excluded: frozenset[str] = field(default=frozenset())
    named: frozenset[str] = field(default=frozenset())
    by_scope: frozenset[str] = field(default=frozenset())
    four_eyes: frozenset[str] = field(default=frozenset())
    quorum: frozenset[str] = field(default=frozenset())


def list_deciders(connection: Connection, organization_id: int) -> dict[str, Deciders]:
    """Return the different rules of what is open in the organization, by their text."""
    query = select(_DECIDERS).where(
        _OPEN, requirements.c.organization_id == organization_id, requirements.c.deciders.is_not(None)
    )
    texts = connection.execute(query.distinct()).scalars()
    return {text: rules for text in texts if (rules := DECIDERS.validate_python(load_json(text))) is not None}


def list_waiting_agents(connection: Connection, organization_id: int) -> set[str]:
    """Return the agents whose runs wait."""
    query = select(runs.c.agent_id).where(has_status(RunStatus.PAUSED), runs.c.organization_id == organization_id)
    return set(connection.execute(query.distinct()).scalars())


def list_open(
    connection: Connection,
    viewer: Viewer,
    selection: InboxFilter,
    now: datetime,
    after: InboxPosition | None,
    limit: int,
) -> list[Request]:
    """Return up to ``limit`` open requests after a position, oldest first.

    Those of ``selection`` that the viewer sees; of these a few may turn out not to be the viewer's to decide, or to be
    so after all.
    """
    conditions = [
        _OPEN,
        requirements.c.organization_id == viewer.organization_id,
        or_(requirements.c.expires_at.is_(None), requirements.c.expires_at > now),
        *_selected(selection),
        {"mine": _mine(viewer), "others": _others(viewer), "all": _seen(viewer)}[selection.whose.value],
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


def _is_by(viewer: Viewer) -> ColumnElement[bool]:
    return false() if viewer.decider is None else requirements.c.decided_by == viewer.decider


def _seen(viewer: Viewer) -> ColumnElement[bool]:
    """Return whether the viewer may read the request: that of a run it sees, or one that it is named for."""
    in_session = true() if viewer.session_id is None else runs.c.session_id == viewer.session_id
    ways = [and_(*_visible(viewer), _among(viewer.reads)), and_(in_session, _one_of(_DECIDERS, viewer.named))]
    if viewer.approves:
        ways.append(and_(in_session, _IS_APPROVAL))
    elif viewer.reads_approvals:
        ways.append(and_(*_visible(viewer), _IS_APPROVAL))
    return or_(*ways)


def _mine(viewer: Viewer) -> ColumnElement[bool]:
    """Return whether the viewer is one of those who may decide the request, and has not confirmed it yet."""
    in_session = true() if viewer.session_id is None else runs.c.session_id == viewer.session_id
    may_run = and_(_among(viewer.runs), or_(and_(*_visible(viewer)), _one_of(_DECIDERS, viewer.named)))
    approves = true() if viewer.approves else false()
    conditions = [
        in_session,
        case((_AWAITS_APPROVAL, approves), else_=or_(may_run, _one_of(_DECIDERS, viewer.by_scope))),
        not_(_one_of(_DECIDERS, viewer.excluded)),
        *_eyes(viewer),
    ]
    if not viewer.prepares:
        conditions.append(runs.c.source_type != SETUP_COMMANDS)
    return and_(*conditions)


def _eyes(viewer: Viewer) -> list[ColumnElement[bool]]:
    """Return the conditions of four eyes and quorum, as far as columns tell."""
    alone = not_(_one_of(_DECIDERS, viewer.quorum))
    if viewer.decider is None:
        # What follows an approval is no further vote.
        return [not_(_one_of(_DECIDERS, viewer.four_eyes)), or_(alone, approvals.c.status == "approved")]
    conditions: list[ColumnElement[bool]] = []
    if viewer.quorum:
        # Not LIKE, which on SQLite takes upper case for lower case.
        confirmed = f'"by":{dump_json(viewer.decider)}'
        conditions.append(or_(alone, requirements.c.votes.is_(None), func.replace(_VOTES, confirmed, "") == _VOTES))
    if viewer.four_eyes:
        second = and_(runs.c.user_id.is_not(None), runs.c.user_id != viewer.decider)
        conditions.append(or_(not_(_one_of(_DECIDERS, viewer.four_eyes)), second))
    return conditions


def _others(viewer: Viewer) -> ColumnElement[bool]:
    return and_(_seen(viewer), case((_mine(viewer), 0), else_=1) == 1)


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
