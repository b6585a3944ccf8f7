"""What paused runs wait for, and what was answered."""

from __future__ import annotations

from datetime import timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from pydantic import TypeAdapter
from sqlalchemy import and_, bindparam, case, func, insert, or_, select, update

from unpause.domain.deciders import Deciders, Vote
from unpause.domain.forms import InputField
from unpause.domain.grants import Remember
from unpause.domain.inbox import RequirementStatus
from unpause.domain.principal import SERVER_ITSELF
from unpause.domain.requirements import Answer, Decision, OnExpire, Requirement, RequirementKind
from unpause.domain.runs import RunStatus
from unpause.lazy import BUILT_LATE
from unpause.store.columns import Instant
from unpause.store.engine.dialects import database_now, first_due, read_now, until_first
from unpause.store.engine.statements import Statement
from unpause.store.journal import read_call
from unpause.store.tables import approvals, inputs, requirements, runs, tool_calls
from unpause.store.unreadable import read_rows, readable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from unpause.domain.runs import Run, ToolCall
    from unpause.store.engine.statements import Record

_FIELDS = TypeAdapter(tuple[InputField, ...], config=BUILT_LATE)
_DECIDERS = TypeAdapter(Deciders | None, config=BUILT_LATE)
_VOTES = TypeAdapter(tuple[Vote, ...], config=BUILT_LATE)
_REMEMBER = TypeAdapter(Remember | None, config=BUILT_LATE)

_INSERT = Statement(insert(requirements))
_ANSWER = Statement(
    update(requirements)
    .where(requirements.c.id == bindparam("requirement"), requirements.c.decision.is_(None))
    .values(due_at=None)
    .returning(requirements.c.id)
)
_CLOSE = Statement(
    update(requirements)
    .where(requirements.c.run_key == bindparam("key"), requirements.c.decision.is_(None))
    .values(due_at=None)
)
# The authors of what the model read: prompts and images, or the values, results and reasons of earlier answers.
_AUTHORS = (
    select(runs.c.user_id)
    .where(runs.c.id == bindparam("key"))
    .union(
        select(inputs.c.created_by).where(inputs.c.run_key == bindparam("key")),
        select(requirements.c.decided_by).where(
            requirements.c.run_key == bindparam("key"),
            requirements.c.pause_id != bindparam("pause"),
            requirements.c.decided_via.not_in(SERVER_ITSELF),
            or_(
                requirements.c.arguments.is_not(None),
                requirements.c.result.is_not(None),
                and_(requirements.c.decision == Decision.REJECTED.value, requirements.c.note.is_not(None)),
            ),
        ),
    )
)
_DUE = Statement(
    select(requirements.c.run_key)
    .join(runs, runs.c.id == requirements.c.run_key)
    .where(requirements.c.due_at <= bindparam("now", type_=Instant), runs.c.status == RunStatus.PAUSED.value)
    .group_by(requirements.c.run_key)
    .order_by(func.min(requirements.c.due_at))
)
_FIRST_DUE = first_due(requirements.c.due_at)
# Not what only the inbox reads: these are read in each cycle.
_OF_INBOX = frozenset({"status", "organization_id", "updated_at"})
REQUIREMENT = (
    *(column for column in requirements.c if column.key not in _OF_INBOX),
    approvals.c.status.label("approval_status"),
)
_WITH_APPROVALS = select(*REQUIREMENT).outerjoin(approvals, approvals.c.id == requirements.c.id)
_OF_RUN = _WITH_APPROVALS.where(requirements.c.run_key == bindparam("key")).order_by(requirements.c.position)
_ALL = Statement(_OF_RUN)
# The time is read with what is compared with it: in the same statement, and after the lock of the run was released. A
# call has a row for each of its requirements, at least one; every requirement has a call.
_CALL = "of_call_"
_CALL_COLUMNS = tuple(tool_calls.c.keys())
_TIMED = Statement(
    select(
        *requirements.c,
        approvals.c.status.label("approval_status"),
        *(column.label(_CALL + column.key) for column in tool_calls.c),
        database_now().label("read_at"),
    )
    .select_from(tool_calls)
    .outerjoin(
        requirements,
        and_(
            requirements.c.run_key == tool_calls.c.run_key,
            requirements.c.call_id == tool_calls.c.tool_call_id,
        ),
    )
    .outerjoin(approvals, approvals.c.id == requirements.c.id)
    .where(tool_calls.c.run_key == bindparam("key"))
    .order_by(tool_calls.c.turn, tool_calls.c.position, requirements.c.position)
)


def add_requirements(
    connection: Connection, run: Run, added: Sequence[Requirement], first_position: int, now: datetime
) -> None:
    """Add the requirements of this pause; positions count on from ``first_position`` through the whole run."""
    if not added:
        return
    _INSERT.send(
        connection,
        *(
            {
                "id": requirement.id,
                "run_key": run.id,
                "organization_id": run.organization_id,
                "position": first_position + offset,
                "pause_id": requirement.pause_id,
                "tool_call_id": requirement.tool_call_id,
                "call_id": requirement.call_id,
                "tool_name": requirement.tool_name,
                "tool_args": requirement.tool_args,
                "kind": requirement.kind.value,
                "fields": _FIELDS.dump_python(requirement.fields, mode="json"),
                "editable": list(requirement.editable),
                "question": requirement.question,
                "in_doubt": requirement.in_doubt,
                "approval": requirement.approval,
                "message": requirement.message,
                "metadata": requirement.metadata,
                "expires_at": requirement.expires_at,
                "on_expire": requirement.on_expire.value,
                "remind_at": requirement.remind_at,
                "due_at": min(filter(None, (requirement.remind_at, requirement.expires_at)), default=None),
                "deciders": _DECIDERS.dump_python(requirement.deciders, mode="json"),
                "remember": _REMEMBER.dump_python(requirement.remember, mode="json"),
                "created_at": requirement.created_at,
                "updated_at": now,
            }
            for offset, requirement in enumerate(added)
        ),
    )


def add_answer(connection: Connection, requirement_id: str, answer: Answer) -> bool:
    """Store an answer, unless there is one; return whether it was stored."""
    parameters = {
        "requirement": requirement_id,
        "decision": answer.decision.value,
        "note": answer.note,
        "arguments": answer.values,
        "result": answer.result,
        "decided_by": answer.by,
        "decided_via": answer.via,
        "decided_at": answer.at,
        "status": (RequirementStatus.EXPIRED if answer.via == "expiry" else RequirementStatus.DECIDED).value,
        "updated_at": answer.at,
        "grant_id": answer.grant_id,
    }
    return _ANSWER.first(connection, parameters) is not None


def keep_votes(connection: Connection, requirement_id: str, votes: Sequence[Vote], now: datetime) -> None:
    """Store the votes so far."""
    parameters = _VOTES.dump_python(tuple(votes), mode="json")
    changed = update(requirements).where(requirements.c.id == requirement_id)
    connection.execute(changed.values(votes=parameters, updated_at=now))


def note_change(connection: Connection, requirement_id: str, now: datetime) -> None:
    """Store that the requirement changed, such as that it was approved and still waits for its values."""
    connection.execute(update(requirements).where(requirements.c.id == requirement_id).values(updated_at=now))


def list_requirements(connection: Connection, run_key: int) -> list[Requirement]:
    """Return all requirements of the run, oldest first."""
    with readable():
        return [read_requirement(row) for row in _ALL.all(connection, {"key": run_key})]


def list_authors(connection: Connection, run_key: int, pause_id: str) -> set[str | None]:
    """Return the authors of what the model had read before this pause; None is a user without a name."""
    return set(connection.execute(_AUTHORS, {"key": run_key, "pause": pause_id}).scalars())


def find_requirements(connection: Connection, ids: Sequence[str]) -> dict[str, Requirement]:
    """Return those of these requirements that exist and can be read, by their ids."""
    if not ids:
        return {}
    query = _WITH_APPROVALS.where(requirements.c.id.in_(ids))
    return {found.id: found for found in read_rows(connection, query, requirements.c.id, read_requirement)}


class Timed(NamedTuple):
    """The requirements and the calls of a run, and the database's time, which decides what has expired."""

    requirements: list[Requirement]
    calls: list[ToolCall]
    now: datetime


def list_timed(connection: Connection, run_key: int, own: datetime) -> Timed:
    """Return what ``list_requirements`` and ``list_tool_calls`` do, in one statement, and the time.

    ``own`` is the time of this process, returned where it owns the database or the run has no calls.
    """
    with readable():
        rows = _TIMED.all(connection, {"key": run_key, "now": own})
        of_calls = {row[f"{_CALL}tool_call_id"]: row for row in rows}
        calls = [read_call({column: row[_CALL + column] for column in _CALL_COLUMNS}) for row in of_calls.values()]
        required = sorted((row for row in rows if row["id"] is not None), key=itemgetter("position"))
        return Timed(list(map(read_requirement, required)), calls, rows[0]["read_at"] if rows else own)


def has_due_runs(connection: Connection, own: datetime) -> bool:
    """Whether ``list_due_runs`` may find any."""
    first = until_first(connection, _FIRST_DUE, own)
    return first is not None and first <= timedelta()


def list_due_runs(connection: Connection, own: datetime) -> list[int]:
    """Return the keys of all paused runs in which an open requirement has expired or its reminder is due.

    The longest due come first. ``own`` is the time of this process, used where it owns the database.
    """
    return [int(row["run_key"]) for row in _DUE.all(connection, {"now": read_now(connection, own)})]


def forget_reminders(connection: Connection, run_key: int, now: datetime) -> None:
    """Remove the due reminders of a run: they have been sent."""
    connection.execute(
        update(requirements)
        .where(requirements.c.run_key == run_key, requirements.c.remind_at <= now)
        .values(
            remind_at=None,
            due_at=case((requirements.c.due_at.is_not(None), requirements.c.expires_at)),
        )
    )


def close_requirements(connection: Connection, run_key: int, status: RequirementStatus, now: datetime) -> None:
    """Close what is open of an ended run: nobody can decide it any more."""
    _CLOSE.send(connection, {"key": run_key, "status": status.value, "updated_at": now})


def read_requirement(row: Record) -> Requirement:
    """Return the requirement of a row that has the status of its approval, too."""
    answer = None
    if row["decision"] is not None:
        answer = Answer(
            decision=Decision(row["decision"]),
            at=row["decided_at"],
            note=row["note"],
            values=row["arguments"],
            result=row["result"],
            by=row["decided_by"],
            via=row["decided_via"],
            grant_id=row["grant_id"],
        )
    return Requirement(
        id=row["id"],
        pause_id=row["pause_id"],
        tool_call_id=row["tool_call_id"],
        call_id=row["call_id"],
        tool_name=row["tool_name"],
        tool_args=row["tool_args"],
        kind=RequirementKind(row["kind"]),
        created_at=row["created_at"],
        fields=_FIELDS.validate_python(row["fields"] or ()),
        editable=tuple(row["editable"] or ()),
        question=row["question"],
        in_doubt=row["in_doubt"],
        approval=row["approval"],
        approval_status=row["approval_status"],
        message=row["message"],
        expires_at=row["expires_at"],
        on_expire=OnExpire(row["on_expire"] or OnExpire.REJECT),
        remind_at=row["remind_at"],
        answer=answer,
        deciders=_DECIDERS.validate_python(row["deciders"]),
        votes=_VOTES.validate_python(row["votes"] or ()),
        metadata=row["metadata"],
        remember=_REMEMBER.validate_python(row["remember"]),
    )
