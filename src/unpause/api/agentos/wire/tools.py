"""Tool executions and requirements as AgentOS's JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unpause.domain.event_payloads import editable_payload, form_payload, votes_payload
from unpause.domain.requirements import Decision, Requirement, RequirementKind
from unpause.domain.runs import Outcome

if TYPE_CHECKING:
    from unpause.domain.runs import ToolCall

_REJECTED = "Tool call was rejected"


def tool_execution(call: ToolCall, required: Requirement | None, *, live: bool = False) -> dict[str, Any]:
    """Return a ``ToolExecution``: always the same 20 keys.

    In ``live`` events about a call the flag that it needs confirmation is still set; afterwards it is not.
    """
    finished = call.outcome is not None
    output = {
        "tool_call_id": call.tool_call_id,
        "tool_name": call.tool_name,
        "tool_args": call.tool_args,
        "tool_call_error": call.outcome is not Outcome.SUCCESS if finished else None,
        "result": call.result_text,
        "metrics": None,
        "child_run_id": None,
        "stop_after_tool_call": False,
        "created_at": int(call.created_at.timestamp()),
        "requires_confirmation": None,
        "confirmed": None,
        "confirmation_note": None,
        "requires_user_input": None,
        "user_input_schema": None,
        "user_feedback_schema": None,
        "answered": None,
        "external_execution_required": None,
        "external_execution_silent": None,
        "approval_type": None,
        "approval_id": None,
    }
    if required is None:
        return {**output, "metrics": _call_metrics(call)}
    return {**output, **_waiting(required, live=live), **_answered(required, live=live)}


def _waiting(required: Requirement, *, live: bool) -> dict[str, Any]:
    """Return the keys about what a call waits for, or waited for until now."""
    waits = required.is_open or live
    keys: dict[str, Any] = {"approval_type": required.approval}
    if required.approval == "required":
        keys["approval_id"] = required.id
    if required.is_open:
        keys["tool_call_id"] = required.tool_call_id
    match required.kind:
        case RequirementKind.CONFIRMATION:
            keys["requires_confirmation"] = waits
        case RequirementKind.USER_INPUT:
            keys |= {"requires_user_input": waits, "user_input_schema": form_payload(required)}
        case RequirementKind.EXTERNAL_EXECUTION:
            keys["external_execution_required"] = required.is_open
    # Not in AgentOS, and only where the tool has editable arguments.
    return {**keys, **editable_payload(required)}


def _answered(required: Requirement, *, live: bool) -> dict[str, Any]:
    """Return the keys about the answer."""
    answer = required.answer
    if answer is None:
        return {}
    if answer.decision is Decision.REJECTED:
        return {"confirmed": False, "confirmation_note": answer.note or _REJECTED, "result": None}
    match required.kind:
        case RequirementKind.CONFIRMATION:
            return {"confirmed": True, "confirmation_note": answer.note}
        case RequirementKind.USER_INPUT:
            return {"answered": None if live else True}
        case RequirementKind.EXTERNAL_EXECUTION:
            # AgentOS never reports whether an external execution failed.
            return {"tool_call_error": None}


def requirement(required: Requirement, calls: tuple[ToolCall, ...]) -> dict[str, Any]:
    """Return a ``RunRequirement``, absent keys left out."""
    call = next(call for call in calls if call.tool_call_id == required.call_id)
    answer = required.answer
    output = {
        "id": required.id,
        "created_at": required.created_at.isoformat(),
        "tool_execution": tool_execution(call, required),
        "confirmation": confirmed_by(required),
        "confirmation_note": answer.note if answer else None,
        "external_execution_result": answer.result if answer else None,
        "user_input_schema": form_payload(required) if required.kind is RequirementKind.USER_INPUT else None,
        "in_doubt": required.in_doubt or None,
        "expires_at": required.expires_at.isoformat() if required.expires_at else None,
        "message": required.message or required.reason,
        # Not in AgentOS, like the next keys: the tool's own metadata, and the model's arguments where the tool's
        # validation changed them.
        "metadata": required.metadata,
        "sent_args": call.sent_args,
        # Only where several people have to confirm.
        **votes_payload(required),
        **editable_payload(required),
    }
    return {key: value for key, value in output.items() if value is not None}


def confirmed_by(required: Requirement | None) -> bool | None:
    """Return whether the call was confirmed; None where it needs no confirmation, or has none yet."""
    if required is None or required.answer is None:
        return None
    if required.answer.decision is Decision.REJECTED:
        return False
    return True if required.kind is RequirementKind.CONFIRMATION else None


def _call_metrics(call: ToolCall) -> dict[str, float] | None:
    if call.started_at is None or call.finished_at is None:
        return None
    return {
        "start_time": call.started_at.timestamp(),
        "end_time": call.finished_at.timestamp(),
        "duration": seconds_of(call),
    }


def seconds_of(call: ToolCall) -> float:
    """Return how long the call ran; 0 where that is unknown."""
    if call.started_at is None or call.finished_at is None:
        return 0.0
    return (call.finished_at - call.started_at).total_seconds()
