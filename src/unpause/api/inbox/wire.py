"""Writes requests of the inbox for clients, and reads cursors."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from unpause.api.inbox.models import (
    EarlierDecision,
    InboxDecision,
    InboxForm,
    InboxMessage,
    InboxPage,
    InboxRequest,
    InboxRequestDetail,
    InboxRequestOutcome,
    InboxVote,
    Kind,
    Rememberable,
    Verb,
)
from unpause.api.native import moment
from unpause.domain.inbox import ChangePosition, InboxPosition
from unpause.domain.requirements import Decision, RequirementKind
from unpause.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unpause.domain import inbox
    from unpause.domain.forms import InputField
    from unpause.domain.requirements import Answer, Requirement
    from unpause.domain.runs import TranscriptEntry
    from unpause.services.inbox_feed import VisibleChange

VERBS: dict[Decision, Verb] = {
    Decision.CONFIRMED: "approve",
    Decision.REJECTED: "reject",
    Decision.ANSWERED: "answer",
}
_KINDS: dict[RequirementKind, Kind] = {
    RequirementKind.CONFIRMATION: "confirmation",
    RequirementKind.USER_INPUT: "user_input",
    RequirementKind.EXTERNAL_EXECUTION: "external_execution",
}
# For forms that an older version stored.
_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "array", "dict": "object"}
_SPOKEN = frozenset({"user", "assistant"})
_LONGEST_TEXT = 2000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_EVENT_ID = re.compile(f"([0-9]{{1,17}})-({_UUID})", re.ASCII)
# Nothing else than what was written: JSON may hold text that no database takes.
_CURSOR = re.compile(rf'\["([0-9T:.+-]{{1,40}})", "({_UUID})"\]', re.ASCII)


def request_of(item: inbox.InboxItem, address: str) -> InboxRequest:
    """Return the request; ``address`` is the server's URL."""
    return InboxRequest(**_shown(item, address))


def outcome_of(item: inbox.InboxItem, address: str) -> InboxRequestOutcome:
    """Return the request with its decision and the status of its run."""
    return InboxRequestOutcome(**_shown(item, address), **_decided(item))


def detail_of(item: inbox.InboxItem, address: str) -> InboxRequestDetail:
    """Return the request with its decision, the status of its run and earlier decisions."""
    return InboxRequestDetail(
        **_shown(item, address),
        **_decided(item),
        earlier=[
            EarlierDecision(requirement_id=each.id, arguments=each.tool_args, **decision_of(each.answer).model_dump())
            for each in item.earlier
            if each.answer is not None
        ],
    )


def page_of(page: inbox.InboxPage, address: str) -> InboxPage:
    """Return part of a list."""
    return InboxPage(
        data=[request_of(item, address) for item in page.items],
        next=None if page.after is None else write_cursor(page.after),
    )


def decision_of(answer: Answer) -> InboxDecision:
    """Return a decision."""
    return InboxDecision(
        decision=VERBS[answer.decision], by=answer.by, at=moment(answer.at), note=answer.note, via=answer.via
    )


def frame_of(visible: VisibleChange, address: str) -> bytes:
    """Return the event of a change: its kind and the request as it stands then."""
    kind, outcome = visible.change.kind.value, outcome_of(visible.item, address).model_dump(mode="json", by_alias=True)
    data = to_json({"event": kind, **outcome}).decode()
    return f"id: {write_event_id(visible.change.position)}\nevent: {kind}\ndata: {data}\n\n".encode()


def write_event_id(position: ChangePosition) -> str:
    """Return the place among the changes as text."""
    micros = (position.updated_at - _EPOCH) // timedelta(microseconds=1)
    return f"{micros}-{position.requirement_id}"


def read_event_id(text: str | None) -> ChangePosition | None:
    """Return the place that ``write_event_id`` wrote; raise InvalidInput for anything else."""
    if not text:
        return None
    found = _EVENT_ID.fullmatch(text)
    if found is None:
        raise InvalidInput("Last-Event-ID is not the id of an event of the inbox")
    return ChangePosition(_EPOCH + timedelta(microseconds=int(found[1])), found[2])


def write_cursor(position: InboxPosition) -> str:
    """Return the place in a list as text."""
    content = json.dumps([position.created_at.isoformat(), position.requirement_id])
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def read_cursor(text: str | None) -> InboxPosition | None:
    """Return the place that ``write_cursor`` wrote; raise InvalidInput for anything else."""
    if text is None:
        return None
    try:
        found = _CURSOR.fullmatch(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode())
        created_at = datetime.fromisoformat(found[1]) if found is not None else None
    except ValueError:
        raise InvalidInput("cursor is not one of this list") from None
    if found is None or created_at is None or created_at.tzinfo is None:
        raise InvalidInput("cursor is not one of this list")
    return InboxPosition(created_at, found[2])


def _decided(item: inbox.InboxItem) -> dict[str, Any]:
    answer = item.request.requirement.answer
    return {
        "decision": None if answer is None else decision_of(answer),
        "run_status": item.request.run.status,
    }


def _shown(item: inbox.InboxItem, address: str) -> dict[str, Any]:
    request = item.request
    requirement, run, rules = request.requirement, request.run, request.requirement.deciders
    return {
        "requirement_id": requirement.id,
        "run_id": run.run_id,
        "agent_id": run.agent_id,
        "organization_id": run.organization_id,
        "session_id": run.session_id,
        "tool_call_id": requirement.tool_call_id,
        "tool_name": requirement.tool_name,
        "tool_description": item.description,
        "kind": "question" if requirement.question else _KINDS[requirement.kind],
        "arguments": requirement.tool_args,
        "form": _form(requirement),
        "reason": requirement.reason,
        "explanation": requirement.message,
        "started_by": run.user_id,
        "created_at": moment(requirement.created_at),
        "expires_at": None if requirement.expires_at is None else moment(requirement.expires_at),
        "in_doubt": requirement.in_doubt,
        "needs_approval": requirement.awaits_approval,
        "votes": [InboxVote(by=vote.by, at=moment(vote.at), note=vote.note) for vote in requirement.votes],
        "quorum": 1 if rules is None else rules.quorum,
        "approvers": [] if rules is None else list(rules.approvers),
        "may_decide": item.may_decide,
        "why_not": item.why_not,
        "messages": list(_messages(item.messages)),
        "remember": _rememberable(requirement),
        "url": f"{address}/console/requests/{requirement.id}",
        "status": request.status,
    }


def _rememberable(requirement: Requirement) -> Rememberable | None:
    allowed = requirement.remember
    if allowed is None:
        return None
    return Rememberable(scopes=list(allowed.scopes), matches=list(allowed.matches), max_seconds=allowed.max_seconds)


def _messages(entries: Iterable[TranscriptEntry]) -> Iterable[InboxMessage]:
    for entry in entries:
        if entry.role in _SPOKEN and entry.content:
            text = entry.content if len(entry.content) <= _LONGEST_TEXT else entry.content[: _LONGEST_TEXT - 1] + "…"
            yield InboxMessage(role=entry.role, text=text, at=moment(entry.created_at))


def _form(requirement: Requirement) -> InboxForm | None:
    """Return the form of a call whose decider fills in or may change something; None where there is nothing."""
    known = {field.name: field for field in requirement.fields}
    names = [field.name for field in requirement.fields if field.open or field.name in requirement.changeable]
    # Requirements stored by older versions have the names of editable arguments alone.
    names += [name for name in requirement.changeable if name not in known]
    if not names or requirement.kind is RequirementKind.EXTERNAL_EXECUTION:
        return None
    properties = {name: _property(known.get(name), name, requirement) for name in names}
    required = [name for name in names if name in known and known[name].open and known[name].required]
    schema = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    return InboxForm(json_schema=schema, editable=list(requirement.changeable), required=required)


def _property(field: InputField | None, name: str, requirement: Requirement) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    if field is not None:
        schema = dict(field.schema) if field.schema is not None else {"type": _TYPES.get(field.field_type, "string")}
        if field.description:
            schema.setdefault("description", field.description)
    if name in requirement.changeable and name in requirement.tool_args:
        schema["default"] = requirement.tool_args[name]
    return schema
