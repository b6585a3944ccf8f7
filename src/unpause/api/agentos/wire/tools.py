"""Tool executions and requirements as AgentOS's JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unpause.domain.event_payloads import editable_payload, form_payload, votes_payload
from unpause.domain.requirements import Decision, Requirement, RequirementKind
from unpause.domain.runs import Outcome

if TYPE_CHECKING:
    from unpause.domain.runs import ToolCall

_REJECTED = "Tool call was rejected"


def tool_execution(call: ToolCall, wanted: Requirement | None, *, live: bool = False) -> dict[str, Any]:
    """Return a ``ToolExecution`` (agno.md 4.1): always the same 20 keys.

    In ``live`` events about a call the flag that it needed confirmation still stands; afterwards it does not.
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
    if wanted is None:
        return {**output, "metrics": _call_metrics(call)}
    return {**output, **_waiting(wanted, live=live), **_answered(wanted, live=live)}


def _waiting(wanted: Requirement, *, live: bool) -> dict[str, Any]:
    """Return the keys that say what a call waits for, or waited for until now."""
    waits = wanted.is_open or live
    keys: dict[str, Any] = {"approval_type": wanted.approval}
    if wanted.approval == "required":
        keys["approval_id"] = wanted.id
    if wanted.is_open:
        keys["tool_call_id"] = wanted.tool_call_id
    match wanted.kind:
        case RequirementKind.CONFIRMATION:
            keys["requires_confirmation"] = waits
        case RequirementKind.USER_INPUT:
            keys |= {"requires_user_input": waits, "user_input_schema": form_payload(wanted)}
        case RequirementKind.EXTERNAL_EXECUTION:
            keys["external_execution_required"] = wanted.is_open
    # Not in AgentOS, and only where the tool's author lets people change something.
    return {**keys, **editable_payload(wanted)}


def _answered(wanted: Requirement, *, live: bool) -> dict[str, Any]:
    """Return the keys that say what was answered."""
    answer = wanted.answer
    if answer is None:
        return {}
    if answer.decision is Decision.REJECTED:
        return {"confirmed": False, "confirmation_note": answer.note or _REJECTED, "result": None}
    match wanted.kind:
        case RequirementKind.CONFIRMATION:
            return {"confirmed": True, "confirmation_note": answer.note}
        case RequirementKind.USER_INPUT:
            return {"answered": None if live else True}
        case RequirementKind.EXTERNAL_EXECUTION:
            # The original never says whether what somebody else ran went wrong (agno.md 6.5).
            return {"tool_call_error": None}


def requirement(wanted: Requirement, calls: tuple[ToolCall, ...]) -> dict[str, Any]:
    """Return a ``RunRequirement`` (agno.md 4.2), absent keys left out."""
    call = next(call for call in calls if call.tool_call_id == wanted.call_id)
    answer = wanted.answer
    output = {
        "id": wanted.id,
        "created_at": wanted.created_at.isoformat(),
        "tool_execution": tool_execution(call, wanted),
        "confirmation": confirmed_by(wanted),
        "confirmation_note": answer.note if answer else None,
        "external_execution_result": answer.result if answer else None,
        "user_input_schema": form_payload(wanted) if wanted.kind is RequirementKind.USER_INPUT else None,
        "in_doubt": wanted.in_doubt or None,
        "expires_at": wanted.expires_at.isoformat() if wanted.expires_at else None,
        "message": wanted.message or wanted.reason,
        # Not in AgentOS, as what follows: what the tool says of its wish to wait, and what the model sent where the
        # tool's validation made something else of it.
        "metadata": wanted.metadata,
        "sent_args": call.sent_args,
        # Only where the tool's author wants several people's yes.
        **votes_payload(wanted),
        **editable_payload(wanted),
    }
    return {key: value for key, value in output.items() if value is not None}


def confirmed_by(wanted: Requirement | None) -> bool | None:
    """Return whether a confirmation was given; None where it was not asked for, or not answered."""
    if wanted is None or wanted.answer is None:
        return None
    if wanted.answer.decision is Decision.REJECTED:
        return False
    return True if wanted.kind is RequirementKind.CONFIRMATION else None


def _call_metrics(call: ToolCall) -> dict[str, float] | None:
    if call.started_at is None or call.finished_at is None:
        return None
    return {
        "start_time": call.started_at.timestamp(),
        "end_time": call.finished_at.timestamp(),
        "duration": seconds_of(call),
    }


def seconds_of(call: ToolCall) -> float:
    """Return how long the call ran; 0 where that is not known."""
    if call.started_at is None or call.finished_at is None:
        return 0.0
    return (call.finished_at - call.started_at).total_seconds()
