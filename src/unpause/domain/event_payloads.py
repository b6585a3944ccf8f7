"""Payloads of events about tool calls and requirements: plain JSON, as they were at the time of the event."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from unpause.domain.requirements import Answer, Requirement, RequirementKind
from unpause.domain.runs import ToolCall
from unpause.lazy import BUILT_LATE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from unpause.domain.forms import InputField

_REQUIREMENTS = TypeAdapter(tuple[Requirement, ...], config=BUILT_LATE)
_CALLS = TypeAdapter(tuple[ToolCall, ...], config=BUILT_LATE)


def call_payload(call: ToolCall) -> dict[str, Any]:
    """Return the payload of an event about one call."""
    return {"call": _CALLS.dump_python((call,), mode="json")[0]}


def read_call(payload: Mapping[str, Any]) -> ToolCall:
    """Return the call that an event is about."""
    return _CALLS.validate_python((payload["call"],))[0]


def pause_payload(
    pause_id: str, content: str | None, calls: Iterable[ToolCall], requirements: Sequence[Requirement]
) -> dict[str, Any]:
    """Return the payload of ``run_paused``: all calls of the run so far, and all requirements.

    ``content`` is the model's last text, if any.
    """
    return {
        "pause_id": pause_id,
        "content": content,
        "calls": _CALLS.dump_python(shown_calls(calls, requirements), mode="json"),
        "requirements": _REQUIREMENTS.dump_python(tuple(requirements), mode="json"),
    }


def read_calls(payload: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    """Return the calls in a ``run_paused`` payload."""
    return _CALLS.validate_python(payload["calls"])


def read_requirements(payload: Mapping[str, Any]) -> tuple[Requirement, ...]:
    """Return the requirements in a ``run_paused`` payload."""
    return _REQUIREMENTS.validate_python(payload["requirements"])


def decision_payload(requirement: Requirement, answer: Answer) -> dict[str, Any]:
    """Return one decision in ``run_continued``; the prompt, which stands beside it, is not repeated."""
    payload = {
        **votes_payload(requirement),
        "tool_call_id": requirement.tool_call_id,
        "tool_name": requirement.tool_name,
        "decision": answer.decision.value,
        "note": None if answer.from_prompt else answer.note,
        "values": answer.values,
        "result": None if answer.from_prompt else answer.result,
        "by": answer.by,
    }
    return {key: value for key, value in payload.items() if value is not None}


def form_payload(requirement: Requirement) -> list[dict[str, Any]]:
    """Return the form of a call that waits or waited for values: each field as in AgentOS, with its JSON schema."""
    if requirement.kind is not RequirementKind.USER_INPUT:
        return []
    values = (requirement.answer.values if requirement.answer else None) or {}
    return [_field_payload(field, values.get(field.name, field.value)) for field in requirement.fields]


def editable_payload(requirement: Requirement) -> dict[str, Any]:
    """Return the arguments that the decider may change, as fields; nothing where there are none."""
    if not requirement.is_open or not requirement.changeable:
        return {}
    known = {field.name: field for field in requirement.fields}
    arguments = requirement.tool_args
    # Requirements stored by older versions have the name alone.
    return {
        "editable": [
            _field_payload(known[name], arguments.get(name))
            if name in known
            else {"name": name, "value": arguments.get(name)}
            for name in requirement.changeable
        ]
    }


def _field_payload(field: InputField, value: object) -> dict[str, Any]:
    shown = {
        "name": field.name,
        "field_type": field.field_type,
        "description": field.description or None,
        "value": value,
    }
    if field.schema is None:
        return shown
    return {**shown, "required": field.required, "schema": field.schema}


def votes_payload(requirement: Requirement) -> dict[str, Any]:
    """Return how many people have to confirm a call and who has; nothing where one is enough."""
    rules = requirement.deciders
    if rules is None or rules.quorum == 1:
        return {}
    return {"quorum": rules.quorum, "votes": [vote.by for vote in requirement.votes]}


def with_requirements(calls: Iterable[ToolCall], requirements: Iterable[Requirement]) -> tuple[ToolCall, ...]:
    """Return the calls, each with the newest requirement about it."""
    newest = {requirement.call_id: requirement for requirement in requirements}
    return tuple(replace(call, requirement=newest.get(call.tool_call_id)) for call in calls)


def shown_calls(calls: Iterable[ToolCall], requirements: Iterable[Requirement]) -> tuple[ToolCall, ...]:
    """Return the calls that clients see, as they see them, each with the newest requirement about it."""
    return tuple(
        replace(call, result=None, result_text=None) if call.is_unprocessed else call
        for call in with_requirements(calls, requirements)
        if call.is_shown
    )
