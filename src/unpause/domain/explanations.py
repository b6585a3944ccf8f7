"""Plain sentences for people: what a paused run waits for, and why a call is in doubt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic_core import to_json

from unpause.domain.event_payloads import votes_payload
from unpause.domain.requirements import RequirementKind
from unpause.domain.runs import CallKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from unpause.domain.requirements import Requirement
    from unpause.domain.runs import ToolCall

# Longer arguments are cut off in what people read; the whole call is in the requirement.
_LONGEST_ARGUMENTS = 300

# What a run waits for whose calls are all decided, where whoever decided did not send it on.
ALL_DECIDED: Final = "Every call is decided. Continue the run to send it on."


def awaiting_text(requirements: Sequence[Requirement]) -> str:
    """Return what a paused run waits for, call by call."""
    waits = [
        _awaited(requirement) + _reason(requirement) + _confirmations(requirement)
        for requirement in requirements
        if requirement.is_open
    ]
    return " ".join(waits) or "The run was paused on request. Resume it with a prompt to send it on."


def _awaited(requirement: Requirement) -> str:
    if requirement.message is not None:
        return requirement.message
    call = f"{requirement.tool_name}({_arguments(requirement.tool_args)})"
    if requirement.question:
        question = requirement.tool_args.get("question")
        return question if isinstance(question, str) and question else f"Waiting for an answer to {call}."
    if requirement.awaits_approval:
        return f"Waiting for an administrator to approve {call}."
    match requirement.kind:
        case RequirementKind.CONFIRMATION:
            return f"Waiting for a confirmation of {call}."
        case RequirementKind.USER_INPUT:
            missing = ", ".join(field.name for field in requirement.fields if field.open)
            return f"Waiting for input to {call}: {missing}."
        case RequirementKind.EXTERNAL_EXECUTION:
            return f"Waiting for the result of {call}, which is run elsewhere."


def _reason(requirement: Requirement) -> str:
    return f" Reason: {requirement.reason}" if requirement.reason is not None else ""


def _confirmations(requirement: Requirement) -> str:
    """Return how many people have to confirm and who has."""
    votes = votes_payload(requirement)
    if not votes or (requirement.approval == "required" and not requirement.awaits_approval):
        return ""
    so_far = f" so far: {', '.join(votes['votes'])}" if votes["votes"] else ""
    return f" It takes {votes['quorum']} people{so_far}."


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
