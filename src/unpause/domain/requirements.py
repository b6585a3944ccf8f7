"""What a paused run waits for, and whether a client's answers fit it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from unpause.domain.arguments import is_echo, is_same_json
from unpause.domain.deciders import Deciders, Vote
from unpause.domain.forms import InputField, read_value
from unpause.domain.grants import GrantRequest, Remember
from unpause.errors import PauseIsOver, RequirementMismatch, RequirementsOpen

DEFAULT_REJECTION = "Function call was rejected by the user"

_MISSING = object()

# The keys of a tool's metadata that hold the reason for a pause, and the length of one that is shown with the call.
_REASONS = ("reason", "why", "message")
_LONGEST_REASON = 500


class RequirementKind(StrEnum):
    """The kind of answer that is required."""

    CONFIRMATION = "confirmation"
    USER_INPUT = "user_input"
    EXTERNAL_EXECUTION = "external_execution"


class OnExpire(StrEnum):
    """What happens to a requirement that is not answered in time."""

    REJECT = "reject"
    APPROVE = "approve"
    CANCEL = "cancel"


class Decision(StrEnum):
    """A human's decision."""

    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Answer:
    """A decision, by whom, when and through which API; ``values`` are arguments, ``result`` an outcome.

    ``grant_id`` is the grant that decided, made by ``by`` before. ``from_prompt`` is True in the request whose prompt
    decided the call, and ``remember`` asks for a grant; neither is stored.
    """

    decision: Decision
    at: datetime
    note: str | None = None
    values: dict[str, Any] | None = None
    result: str | None = None
    by: str | None = None
    via: str = "server"
    grant_id: str | None = None
    from_prompt: Annotated[bool, Field(exclude=True)] = False
    remember: Annotated[GrantRequest | None, Field(exclude=True)] = None


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing a paused run waits for: a decision on exactly the call that was shown.

    ``tool_call_id`` is the id shown to clients and belongs to this pause alone; ``call_id`` is the call's id in the
    journal. They differ where a call needs a second answer, or is in doubt: a repeated answer to the first requirement
    must not count for the second.

    ``metadata`` comes from the call's tool; ``message`` explains why a call needs another answer. ``remember`` is what
    may be remembered of the decision.
    """

    id: str
    pause_id: str
    tool_call_id: str
    call_id: str
    tool_name: str
    tool_args: dict[str, Any]
    kind: RequirementKind
    created_at: datetime
    fields: tuple[InputField, ...] = ()
    editable: tuple[str, ...] = ()
    question: bool = False
    in_doubt: bool = False
    approval: str | None = None
    approval_status: str | None = None
    message: str | None = None
    expires_at: datetime | None = None
    on_expire: OnExpire = OnExpire.REJECT
    remind_at: datetime | None = None
    answer: Answer | None = None
    deciders: Deciders | None = None
    votes: tuple[Vote, ...] = ()
    metadata: dict[str, Any] | None = None
    remember: Remember | None = None

    @property
    def reason(self) -> str | None:
        """Why the call's tool waits: a short text in its metadata, under one of the usual keys."""
        words = ((self.metadata or {}).get(key) for key in _REASONS)
        return next((text for text in words if isinstance(text, str) and 0 < len(text) <= _LONGEST_REASON), None)

    @property
    def label(self) -> str:
        """How messages name the call."""
        return f"Tool call {self.tool_call_id} ({self.tool_name})"

    @property
    def is_open(self) -> bool:
        """Whether it has no answer yet."""
        return self.answer is None

    @property
    def awaits_approval(self) -> bool:
        """Whether it waits for an administrator."""
        return self.is_open and self.approval == "required" and self.approval_status in {None, "pending"}

    @property
    def permits(self) -> bool:
        """Whether exactly the call that would run has been approved."""
        answer = self.answer
        if answer is None or answer.decision is Decision.REJECTED or self.is_granted:
            return False
        return not self.is_changed_since_approval

    @property
    def is_granted(self) -> bool:
        """Whether a grant has decided it: that counts for the start that it was decided for, and for no other."""
        return self.answer is not None and self.answer.grant_id is not None

    @property
    def is_changed_since_approval(self) -> bool:
        """Whether a user filled in values after the administrator had approved the call."""
        answer = self.answer
        return (
            self.approval == "required"
            and self.kind is RequirementKind.USER_INPUT
            and answer is not None
            and answer.decision is Decision.ANSWERED
            and bool(answer.values)
        )

    @property
    def changeable(self) -> tuple[str, ...]:
        """The arguments that the decider may change: none once an administrator has decided."""
        is_decided = self.approval == "required" and self.approval_status not in {None, "pending"}
        return () if is_decided or self.kind is RequirementKind.EXTERNAL_EXECUTION else self.editable


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """A client's answer about one call. None: not sent.

    ``tool_name`` and ``tool_args`` are only compared with what is stored; they never run.
    """

    tool_call_id: str
    tool_name: str | None = None
    tool_args: Mapping[str, Any] | None = None
    confirmed: bool | None = None
    note: str | None = None
    values: Mapping[str, Any] | None = None
    result: str | None = None
    remember: GrantRequest | None = None

    @property
    def decides(self) -> bool:
        """Whether it decides anything, and does not only repeat the call."""
        return self.confirmed is not None or self.result is not None or bool(self.values)


def match_answers(
    requirements: Sequence[Requirement], answers: Iterable[ToolAnswer], known_ids: frozenset[str]
) -> dict[str, ToolAnswer]:
    """Return, by requirement id, the answers that fit the open requirements.

    ``known_ids`` are all tool call ids of the run: an echo of a settled call is ignored beside an answer to this pause,
    and is a late continue when it comes alone. A call with two requirements comes twice from a client that sends back
    all it was shown.

    No answer is needed where administrators decided all requirements; their decisions win over the client's.

    Raises RequirementMismatch for an answer that does not fit, PauseIsOver where all answers belong to settled calls,
    RequirementsOpen without any answer.
    """
    by_call = {requirement.tool_call_id: requirement for requirement in requirements}
    matched: dict[str, ToolAnswer] = {}
    seen: set[str] = set()
    about_now = False
    for answer in answers:
        seen.add(answer.tool_call_id)
        requirement = by_call.get(answer.tool_call_id)
        if requirement is None:
            if answer.tool_call_id not in known_ids:
                raise RequirementMismatch(f"Unknown tool call id {answer.tool_call_id}: this run has no such call")
            continue
        about_now = about_now or requirement.is_open or requirement.approval == "required"
        _refuse_other_call(requirement, answer)
        _refuse_other_decision(requirement, answer)
        if requirement.is_open and (checked := _checked(requirement, answer)) is not None:
            _refuse_other_answer(matched.setdefault(requirement.id, checked), checked)
    if not matched and seen and not about_now:
        raise PauseIsOver("PAUSED")
    if not matched and any(requirement.is_open for requirement in requirements):
        raise RequirementsOpen(_what_is_open(requirements))
    return matched


def _what_is_open(requirements: Iterable[Requirement]) -> str:
    waits = ", ".join(
        f"{requirement.tool_name} ({requirement.tool_call_id}) needs {requirement.kind.value.replace('_', ' ')}"
        for requirement in requirements
        if requirement.is_open
    )
    return f"Run has unresolved requirements and the request answers none of them: {waits}"


def _refuse_other_call(requirement: Requirement, answer: ToolAnswer) -> None:
    """Raise unless the name and arguments sent along, if any, are those that were shown."""
    call = requirement.tool_call_id
    if answer.tool_name is not None and answer.tool_name != requirement.tool_name:
        raise RequirementMismatch(f"Tool call {call} is for {requirement.tool_name}, not {answer.tool_name}")
    _refuse_other_values(requirement, answer)
    if answer.tool_args is None:
        return
    allowed = {field.name for field in requirement.fields if field.open}
    decided: Mapping[str, Any] = {}
    if requirement.answer is None:
        allowed.update(requirement.changeable)
    elif requirement.approval == "required":
        decided = requirement.answer.values or {}
    else:
        # A client may repeat its earlier answer in its own spelling: that is no second answer.
        allowed.update(requirement.editable)
    for name in {*answer.tool_args, *requirement.tool_args} - allowed:
        sent, shown = answer.tool_args.get(name, _MISSING), requirement.tool_args.get(name, _MISSING)
        if not is_echo(sent, shown) and not is_echo(sent, decided.get(name, shown)):
            raise RequirementMismatch(
                f"{requirement.label}: argument {name!r} is not the one that was "
                f"{'decided' if name in requirement.editable else 'shown'}"
            )


def _refuse_other_values(requirement: Requirement, answer: ToolAnswer) -> None:
    """Raise where the values differ from those that an administrator filled in."""
    decided = requirement.answer
    if requirement.approval != "required" or decided is None or answer.confirmed is False:
        return
    if decided.decision is Decision.REJECTED:
        return
    filled_in = decided.values or {}
    for field in requirement.fields:
        value = (answer.values or {}).get(field.name)
        kept = filled_in.get(field.name, field.value)
        # As text: a number may have been sent as one.
        if value is not None and (field.open or field.editable) and str(value) not in {str(kept), str(field.value)}:
            raise RequirementMismatch(f"{requirement.label}: field {field.name!r} is filled in already")


def _refuse_other_answer(first: ToolAnswer, second: ToolAnswer) -> None:
    """Raise when two answers to one open call differ."""
    one, other = ([answer.confirmed, answer.note, answer.values, answer.result] for answer in (first, second))
    if not is_same_json(one, other):
        raise RequirementMismatch(f"Tool call {first.tool_call_id} is answered twice, and not the same way")


def _refuse_other_decision(requirement: Requirement, answer: ToolAnswer) -> None:
    """Raise when the answer contradicts one of an earlier partial continue."""
    if requirement.answer is None or answer.confirmed is None or requirement.approval == "required":
        return
    if answer.confirmed == (requirement.answer.decision is Decision.REJECTED):
        raise RequirementMismatch(f"{requirement.label} was already {requirement.answer.decision.value}")


def _checked(requirement: Requirement, answer: ToolAnswer) -> ToolAnswer | None:
    """Return the answer with its values checked and completed, or None where it decides nothing."""
    external = requirement.kind is RequirementKind.EXTERNAL_EXECUTION
    if answer.result is not None and not external:
        raise RequirementMismatch(f"{requirement.label} is run by the server: it takes no result")
    if answer.confirmed is False:
        # Values sent with a rejection are not checked, and not kept.
        return replace(answer, values=None, result=None)
    if requirement.kind is RequirementKind.USER_INPUT:
        return _with_values(requirement, answer)
    if external and answer.result is not None:
        return replace(answer, values=None)
    if external and answer.confirmed:
        raise RequirementMismatch(
            f"Tool {requirement.tool_name} ({requirement.tool_call_id}) requires external execution: give its result"
        )
    if external or not answer.confirmed:
        return None
    return replace(answer, values=_edited(requirement, answer) or None)


def _edited(requirement: Requirement, answer: ToolAnswer) -> dict[str, Any]:
    """Return the editable arguments that the human changed, in the call or in its form."""
    in_form = {name: value for name, value in (answer.values or {}).items() if value is not None}
    edited: dict[str, Any] = {}
    for name in requirement.changeable:
        for sent in (answer.tool_args or {}, in_form):
            if name not in sent:
                continue
            shown = requirement.tool_args.get(name, _MISSING)
            if shown is _MISSING or not is_same_json(sent[name], shown):
                edited[name] = sent[name]
    return edited


def _with_values(requirement: Requirement, answer: ToolAnswer) -> ToolAnswer | None:
    sent = answer.values or {}
    values = {name: value for name, value in sent.items() if value is not None}
    call = requirement.label
    _refuse_fixed_fields(call, requirement, values)
    fields = [field for field in requirement.fields if field.open]
    if not answer.confirmed and not any(field.name in values for field in fields):
        return None
    # An empty field is left out; where nothing else can be left out for it, null is what was filled in.
    values |= {
        field.name: None for field in fields if field.required and field.takes_null and sent.get(field.name, 0) is None
    }
    if missing := [field.name for field in fields if field.required and field.name not in values]:
        raise RequirementMismatch(f"{call}: missing value for {', '.join(missing)}")
    checked = {
        # Where its schema is known, the tool itself checks the value.
        field.name: values[field.name] if field.schema is not None else read_value(call, field, values[field.name])
        for field in fields
        if field.name in values
    }
    return replace(answer, values={**checked, **_edited(requirement, answer)})


def _refuse_fixed_fields(call: str, requirement: Requirement, values: Mapping[str, Any]) -> None:
    fields = {field.name: field for field in requirement.fields}
    for name, value in values.items():
        field = fields.get(name)
        if field is None:
            raise RequirementMismatch(f"{call}: no such input field: {name}")
        if not field.open and name not in requirement.changeable and value != field.value:
            raise RequirementMismatch(f"{call}: field {name!r} was chosen by the agent and cannot be changed")
