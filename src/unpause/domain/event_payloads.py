"""What events say about tool calls and requirements: plain JSON, frozen at the moment of the event."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from pydantic_core import to_json

from unpause.domain.requirements import Answer, Requirement, RequirementKind
from unpause.domain.runs import CallKind, ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from unpause.domain.forms import InputField

_CALL = TypeAdapter(ToolCall)
_REQUIREMENTS = TypeAdapter(tuple[Requirement, ...])
_CALLS = TypeAdapter(tuple[ToolCall, ...])

# Longer ones are cut off in what people read; the whole call is in the requirement.
_LONGEST_ARGUMENTS = 300

# The fixed texts of a pause (agno.md 4.3); the last call that waits decides.
_PAUSE_TEXT: Mapping[RequirementKind, str] = {
    RequirementKind.CONFIRMATION: "I have tools to execute, but I need confirmation.",
    RequirementKind.USER_INPUT: "I have tools to execute, but I need user input.",
    RequirementKind.EXTERNAL_EXECUTION: "I have tools to execute, but it needs external execution.",
}


def call_payload(call: ToolCall) -> dict[str, Any]:
    """Return the payload of an event about one call."""
    return {"call": _CALL.dump_python(call, mode="json")}


def read_call(payload: Mapping[str, Any]) -> ToolCall:
    """Return the call that an event is about."""
    return _CALL.validate_python(payload["call"])


def pause_payload(
    pause_id: str, content: str, calls: Iterable[ToolCall], requirements: Sequence[Requirement]
) -> dict[str, Any]:
    """Return the payload of ``run_paused``: all calls of the run so far, and all requirements."""
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
    """Return the form of a call that waits for values, or did: each field as AgentOS has it, and its JSON schema."""
    if requirement.kind is not RequirementKind.USER_INPUT:
        return []
    given = (requirement.answer.values if requirement.answer else None) or {}
    return [_field_payload(field, given.get(field.name, field.value)) for field in requirement.fields]


def editable_payload(requirement: Requirement) -> dict[str, Any]:
    """Return which arguments whoever decides may change, as fields; nothing where that is none."""
    if not requirement.is_open or not requirement.changeable:
        return {}
    known = {field.name: field for field in requirement.fields}
    arguments = requirement.tool_args
    # Of calls that waited before fields were kept there is the name alone.
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
    """Return how many people's yes a call takes, and whose there are; nothing where one is enough."""
    rules = requirement.deciders
    if rules is None or rules.quorum == 1:
        return {}
    return {"quorum": rules.quorum, "votes": [vote.by for vote in requirement.votes]}


def with_requirements(calls: Iterable[ToolCall], requirements: Iterable[Requirement]) -> tuple[ToolCall, ...]:
    """Return the calls, each with the newest requirement about it."""
    newest = {requirement.call_id: requirement for requirement in requirements}
    return tuple(replace(call, requirement=newest.get(call.tool_call_id)) for call in calls)


def shown_calls(calls: Iterable[ToolCall], requirements: Iterable[Requirement]) -> tuple[ToolCall, ...]:
    """Return the calls that clients see, each with the newest requirement about it."""
    return tuple(call for call in with_requirements(calls, requirements) if call.is_shown)


def pause_text(requirements: Sequence[Requirement]) -> str:
    """Return the words that say what a paused run waits for."""
    again = [requirement.message for requirement in requirements if requirement.message]
    if again:
        return " ".join(again)
    return _PAUSE_TEXT[requirements[-1].kind] if requirements else "The run was paused."


def awaiting_text(requirements: Sequence[Requirement]) -> str:
    """Return in plain words what a paused run waits for, call by call."""
    waits = [
        _awaited(requirement) + _reason(requirement) + _voices(requirement)
        for requirement in requirements
        if requirement.is_open
    ]
    return " ".join(waits) or "The run was paused on request. Resume it with a prompt to send it on."


def _awaited(requirement: Requirement) -> str:
    if requirement.message is not None:
        return requirement.message
    call = f"{requirement.tool_name}({_arguments(requirement.tool_args)})"
    if requirement.question:
        asked = requirement.tool_args.get("question")
        return asked if isinstance(asked, str) and asked else f"Waiting for an answer to {call}."
    if requirement.awaits_approval:
        return f"Waiting for an administrator to approve {call}."
    match requirement.kind:
        case RequirementKind.CONFIRMATION:
            return f"Waiting for a confirmation of {call}."
        case RequirementKind.USER_INPUT:
            wanted = ", ".join(field.name for field in requirement.fields if field.open)
            return f"Waiting for input to {call}: {wanted}."
        case RequirementKind.EXTERNAL_EXECUTION:
            return f"Waiting for the result of {call}, which is run elsewhere."


def _reason(requirement: Requirement) -> str:
    return f" Reason: {requirement.reason}" if requirement.reason is not None else ""


def _voices(requirement: Requirement) -> str:
    """Return how many people have to say yes and who did, to be added to what is awaited."""
    voices = votes_payload(requirement)
    if not voices or (requirement.approval == "required" and not requirement.awaits_approval):
        return ""
    said = f" so far: {', '.join(voices['votes'])}" if voices["votes"] else ""
    return f" It takes {voices['quorum']} people{said}."


def _arguments(arguments: Mapping[str, Any]) -> str:
    shown = ", ".join(f"{name}={to_json(value).decode()}" for name, value in arguments.items())
    return shown if len(shown) <= _LONGEST_ARGUMENTS else shown[: _LONGEST_ARGUMENTS - 1] + "…"


def doubt_text(call: ToolCall) -> str:
    """Return the question about a call that started and has no recorded end."""
    if call.kind is CallKind.OUTPUT:
        return (
            f"The server stopped while {call.tool_name} was processing the agent's answer: it may already have run. "
            "Confirm to run it again, or reject it with a note about what happened, which ends the run."
        )
    return (
        f"The server stopped while {call.tool_name} was running: the call may already have run. "
        "Confirm to run it again, or reject it with a note about what happened."
    )
