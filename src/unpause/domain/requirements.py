"""What a paused run waits for, and whether the answers a client gives fit it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from unpause.domain.arguments import is_same_json
from unpause.domain.deciders import Deciders, Vote
from unpause.domain.forms import InputField, read_value
from unpause.errors import PauseIsOver, RequirementMismatch, RequirementsOpen

DEFAULT_REJECTION = "Function call was rejected by the user"

_MISSING = object()

# Where tools say in their metadata why they wait, and how long that may be to be read beside the call.
_REASONS = ("reason", "why", "message")
_LONGEST_REASON = 500


class RequirementKind(StrEnum):
    """What kind of answer is wanted."""

    CONFIRMATION = "confirmation"
    USER_INPUT = "user_input"
    EXTERNAL_EXECUTION = "external_execution"


class OnExpire(StrEnum):
    """What happens to a requirement that nobody answered in time."""

    REJECT = "reject"
    APPROVE = "approve"
    CANCEL = "cancel"


class Decision(StrEnum):
    """What the human said."""

    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Answer:
    """A decision, by whom, when and through which API; ``values`` are arguments, ``result`` an outcome.

    ``from_prompt`` is True in the request whose prompt decided the call; it is not stored.
    """

    decision: Decision
    at: datetime
    note: str | None = None
    values: dict[str, Any] | None = None
    result: str | None = None
    by: str | None = None
    via: str = "server"
    from_prompt: Annotated[bool, Field(exclude=True)] = False


@dataclass(frozen=True, slots=True)
class Requirement:
    """One thing a paused run waits for: a decision on exactly the call that was shown.

    ``tool_call_id`` is the id shown to clients and belongs to this pause alone; ``call_id`` is the call's id in the
    journal. They differ where a call is asked about a second time, or is in doubt: a repeated answer to the first
    question must not count for the second.

    ``metadata`` is what the call's tool gave with its wish to wait; ``message`` says why a call is asked about again.
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

    @property
    def reason(self) -> str | None:
        """Why the call's tool waits, in its own words: of its metadata a short text under one of the usual keys."""
        words = ((self.metadata or {}).get(key) for key in _REASONS)
        return next((text for text in words if isinstance(text, str) and 0 < len(text) <= _LONGEST_REASON), None)

    @property
    def is_open(self) -> bool:
        """Whether nobody has answered yet."""
        return self.answer is None

    @property
    def awaits_approval(self) -> bool:
        """Whether only an administrator may answer, and has not."""
        return self.is_open and self.approval == "required" and self.approval_status in {None, "pending"}

    @property
    def permits(self) -> bool:
        """Whether everybody who has to has said yes to exactly the call that would run."""
        answer = self.answer
        if answer is None or answer.decision is Decision.REJECTED:
            return False
        return not self.is_changed_since_approval

    @property
    def is_changed_since_approval(self) -> bool:
        """Whether values were filled in that the administrator, who approved the call before, has not seen."""
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
        """The arguments that whoever decides may change: none once an administrator has approved the call."""
        is_decided = self.approval == "required" and self.approval_status not in {None, "pending"}
        return () if is_decided or self.kind is RequirementKind.EXTERNAL_EXECUTION else self.editable


@dataclass(frozen=True, slots=True)
class ToolAnswer:
    """What a client says about one call. None means: not said.

    ``tool_name`` and ``tool_args`` are only compared with what is stored; they never run.
    """

    tool_call_id: str
    tool_name: str | None = None
    tool_args: Mapping[str, Any] | None = None
    confirmed: bool | None = None
    note: str | None = None
    values: Mapping[str, Any] | None = None
    result: str | None = None

    @property
    def decides(self) -> bool:
        """Whether it says anything, and does not only repeat the call."""
        return self.confirmed is not None or self.result is not None or bool(self.values)


def match_answers(
    requirements: Sequence[Requirement], given: Iterable[ToolAnswer], known_ids: frozenset[str]
) -> dict[str, ToolAnswer]:
    """Return, by requirement id, the answers that fit the open requirements.

    ``known_ids`` are all tool call ids of the run: an echo of a call that is settled is ignored when it comes
    with something about this pause, however often, and is a late continue when it comes alone. A call that was asked
    about twice comes twice where a client sends back all it was shown.

    None are needed where nothing is open any more, because administrators decided all of it; what they decided wins
    over whatever the client says.

    Raises RequirementMismatch for an answer that does not fit, PauseIsOver for answers that belong only to
    what is settled already, RequirementsOpen when nothing was said at all.
    """
    by_call = {requirement.tool_call_id: requirement for requirement in requirements}
    matched: dict[str, ToolAnswer] = {}
    seen: set[str] = set()
    about_now = False
    for answer in given:
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
        # What a client says once more of a call that it answered before, in its own spelling, is no second answer.
        allowed.update(requirement.editable)
    for name in {*answer.tool_args, *requirement.tool_args} - allowed:
        sent, shown = answer.tool_args.get(name, _MISSING), requirement.tool_args.get(name, _MISSING)
        if sent not in (shown, decided.get(name, shown)):
            raise RequirementMismatch(
                f"Tool call {call} ({requirement.tool_name}): argument {name!r} is not the one that was "
                f"{'decided' if name in requirement.editable else 'shown'}"
            )


def _refuse_other_values(requirement: Requirement, answer: ToolAnswer) -> None:
    """Raise where a form that an administrator filled in is filled in otherwise."""
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
            raise RequirementMismatch(
                f"Tool call {requirement.tool_call_id} ({requirement.tool_name}): "
                f"field {field.name!r} is filled in already"
            )


def _refuse_other_answer(first: ToolAnswer, second: ToolAnswer) -> None:
    """Raise when two answers to one open call do not say the same."""
    said = [(answer.confirmed, answer.note, answer.values, answer.result) for answer in (first, second)]
    if said[0] != said[1]:
        raise RequirementMismatch(f"Tool call {first.tool_call_id} is answered twice, and not the same way")


def _refuse_other_decision(requirement: Requirement, answer: ToolAnswer) -> None:
    """Raise when an answer given before, in a partial continue, is contradicted."""
    if requirement.answer is None or answer.confirmed is None or requirement.approval == "required":
        return
    if answer.confirmed == (requirement.answer.decision is Decision.REJECTED):
        raise RequirementMismatch(
            f"Tool call {requirement.tool_call_id} ({requirement.tool_name}) "
            f"was already {requirement.answer.decision.value}"
        )


def _checked(requirement: Requirement, answer: ToolAnswer) -> ToolAnswer | None:
    """Return the answer with its values checked and completed, or None where it says nothing."""
    external = requirement.kind is RequirementKind.EXTERNAL_EXECUTION
    if answer.result is not None and not external:
        raise RequirementMismatch(
            f"Tool call {requirement.tool_call_id} ({requirement.tool_name}) is run by the server: "
            "a result cannot be given for it"
        )
    if answer.confirmed is False:
        # What came along with a no was never checked, and means nothing.
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
    """Return the arguments that the human changed, all of them declared editable: in the call, or in its form."""
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
    given = {name: value for name, value in sent.items() if value is not None}
    call = f"Tool call {requirement.tool_call_id} ({requirement.tool_name})"
    _refuse_fixed_fields(call, requirement, given)
    wanted = [field for field in requirement.fields if field.open]
    if not answer.confirmed and not any(field.name in given for field in wanted):
        return None
    # An empty field is left out; where nothing else can be left out for it, null is what was filled in.
    given |= {
        field.name: None for field in wanted if field.required and field.takes_null and sent.get(field.name, 0) is None
    }
    if missing := [field.name for field in wanted if field.required and field.name not in given]:
        raise RequirementMismatch(f"{call}: missing value for {', '.join(missing)}")
    values = {
        # Where its schema is known, the tool itself checks the value.
        field.name: given[field.name] if field.schema is not None else read_value(call, field, given[field.name])
        for field in wanted
        if field.name in given
    }
    return replace(answer, values={**values, **_edited(requirement, answer)})


def _refuse_fixed_fields(call: str, requirement: Requirement, given: Mapping[str, Any]) -> None:
    fields = {field.name: field for field in requirement.fields}
    for name, value in given.items():
        field = fields.get(name)
        if field is None:
            raise RequirementMismatch(f"{call}: no such input field: {name}")
        if not field.open and name not in requirement.changeable and value != field.value:
            raise RequirementMismatch(f"{call}: field {name!r} was chosen by the agent and cannot be changed")
