"""From the server's words to AgentOS's JSON: runs, tool executions, requirements, messages, events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from unpause.domain.events import Event, EventType
from unpause.domain.requirements import Decision, Requirement, RequirementKind
from unpause.domain.runs import Outcome, Run, RunStatus, RunView, ToolCall, TranscriptEntry
from unpause.runs.snapshots import read_call, read_calls, read_requirements

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unpause.api.sse import Frame

_REJECTED = "Tool call was rejected"


def run_output(view: RunView, *, stored: bool) -> dict[str, Any]:
    """Return a ``RunOutput`` (agno.md 4.4), absent keys left out; ``stored`` adds those of a run read back."""
    run = view.run
    output = {
        "run_id": run.run_id,
        "agent_id": run.agent_id,
        "agent_name": run.agent_id,
        "session_id": run.session_id,
        "user_id": run.user_id,
        "content": run.content,
        "content_type": run.content_type,
        "model": run.model,
        "model_provider": run.model_provider,
        "session_state": {},
        "created_at": int(run.created_at.timestamp()),
        "status": run.status.value,
        "metrics": _metrics(run),
        "events": [] if stored else None,
        "messages": _messages(view),
        "metadata": run.metadata,
        "tools": [tool_execution(call, call.requirement) for call in view.tool_calls],
        "requirements": [requirement(item, view.tool_calls) for item in view.requirements] or None,
        "pause_id": run.pause_id if run.status is RunStatus.PAUSED else None,
        "input": {"input_content": run.prompt},
    }
    return {key: value for key, value in output.items() if value is not None}


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
    if wanted.is_open:
        keys["tool_call_id"] = wanted.tool_call_id
    match wanted.kind:
        case RequirementKind.CONFIRMATION:
            keys["requires_confirmation"] = waits
        case RequirementKind.USER_INPUT:
            keys |= {"requires_user_input": waits, "user_input_schema": _form(wanted)}
        case RequirementKind.EXTERNAL_EXECUTION:
            keys["external_execution_required"] = wanted.is_open
    return keys


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
        "confirmation": _confirmed(wanted),
        "confirmation_note": answer.note if answer else None,
        "external_execution_result": answer.result if answer else None,
        "user_input_schema": _form(wanted) if wanted.kind is RequirementKind.USER_INPUT else None,
        "in_doubt": wanted.in_doubt or None,
        "message": wanted.message,
    }
    return {key: value for key, value in output.items() if value is not None}


def framer(run: Run) -> Callable[[Event], Frame]:
    """Return the translation of this run's events into frames."""
    base = {
        "agent_id": run.agent_id,
        "agent_name": run.agent_id,
        "run_id": run.run_id,
        "session_id": run.session_id,
    }

    def frame(event: Event) -> Frame:
        name, fields = _TRANSLATIONS[event.type](event, run)
        data = {"created_at": int(event.at.timestamp()), "event": name, **base, **fields}
        return name, to_json({key: value for key, value in data.items() if value is not None}).decode()

    return frame


Translated = tuple[str, "Mapping[str, Any]"]


def _plain(name: str) -> Callable[[Event, Run], Translated]:
    return lambda _event, _run: (name, {})


def _with_payload(name: str) -> Callable[[Event, Run], Translated]:
    return lambda event, _run: (name, event.payload)


def _model_completed(event: Event, _run: Run) -> Translated:
    tokens = {name: event.payload.get(name, 0) for name in ("input_tokens", "output_tokens")}
    return "ModelRequestCompleted", {
        "model": event.payload.get("model"),
        "model_provider": event.payload.get("model_provider"),
        **tokens,
        "total_tokens": sum(tokens.values()),
        "reasoning_tokens": event.payload.get("reasoning_tokens", 0),
        "cache_read_tokens": event.payload.get("cache_read_tokens", 0),
        "cache_write_tokens": event.payload.get("cache_write_tokens", 0),
        "time_to_first_token": event.payload.get("time_to_first_token"),
    }


def _content(event: Event, _run: Run) -> Translated:
    return "RunContent", {
        "content": event.payload["content"],
        "workflow_agent": False,
        "content_type": "str",
        "reasoning_content": event.payload.get("reasoning", ""),
    }


def _call_started(event: Event, _run: Run) -> Translated:
    call = read_call(event.payload)
    return "ToolCallStarted", {"tool": tool_execution(call, call.requirement, live=True)}


def _call_completed(event: Event, _run: Run) -> Translated:
    call = read_call(event.payload)
    arguments = ", ".join(f"{name}={value}" for name, value in call.tool_args.items())
    content = f"{call.tool_name}({arguments}) completed in {_seconds(call):.4f}s. "
    return "ToolCallCompleted", {"content": content, "tool": tool_execution(call, call.requirement, live=True)}


def _call_failed(event: Event, _run: Run) -> Translated:
    call = read_call(event.payload)
    return "ToolCallError", {
        "tool": tool_execution(call, call.requirement, live=True),
        "error": event.payload.get("error"),
    }


def _paused(event: Event, _run: Run) -> Translated:
    calls = read_calls(event.payload)
    return "RunPaused", {
        "content": event.payload["content"],
        "tools": [tool_execution(call, call.requirement) for call in calls],
        "requirements": [requirement(wanted, calls) for wanted in read_requirements(event.payload)],
        "pause_id": event.payload["pause_id"],
    }


def _completed(event: Event, run: Run) -> Translated:
    duration = (event.at - run.created_at).total_seconds()
    return "RunCompleted", {
        "content": event.payload["content"],
        "content_type": event.payload["content_type"],
        "session_state": {},
        "metrics": {**(event.payload.get("usage") or {}), "duration": duration},
    }


def _failed(event: Event, _run: Run) -> Translated:
    return "RunError", {"content": event.payload["content"], "error_type": event.payload["reason"]}


def _cancelled(_event: Event, run: Run) -> Translated:
    return "RunCancelled", {"reason": f"Run {run.run_id} was cancelled"}


_TRANSLATIONS: Mapping[EventType, Callable[[Event, Run], Translated]] = {
    EventType.RUN_STARTED: _with_payload("RunStarted"),
    EventType.RUN_CONTINUED: _plain("RunContinued"),
    EventType.MODEL_REQUEST_STARTED: _with_payload("ModelRequestStarted"),
    EventType.MODEL_REQUEST_COMPLETED: _model_completed,
    EventType.CONTENT_DELTA: _content,
    EventType.CONTENT_COMPLETED: _plain("RunContentCompleted"),
    EventType.TOOL_CALL_STARTED: _call_started,
    EventType.TOOL_CALL_COMPLETED: _call_completed,
    EventType.TOOL_CALL_FAILED: _call_failed,
    EventType.RUN_PAUSED: _paused,
    EventType.RUN_COMPLETED: _completed,
    EventType.RUN_FAILED: _failed,
    EventType.RUN_CANCELLED: _cancelled,
}


def _confirmed(wanted: Requirement | None) -> bool | None:
    if wanted is None or wanted.answer is None:
        return None
    if wanted.answer.decision is Decision.REJECTED:
        return False
    return True if wanted.kind is RequirementKind.CONFIRMATION else None


def _form(wanted: Requirement) -> list[dict[str, Any]]:
    given = (wanted.answer.values if wanted.answer else None) or {}
    return [
        {
            "name": field.name,
            "field_type": field.field_type,
            "description": field.description,
            "value": given.get(field.name, field.value),
        }
        for field in wanted.fields
    ]


def _messages(view: RunView) -> list[dict[str, Any]]:
    # As in a tool execution, the original never says whether what somebody else ran went wrong.
    elsewhere = {
        wanted.call_id
        for wanted in view.requirements
        if wanted.kind is RequirementKind.EXTERNAL_EXECUTION and _confirmed(wanted) is not False
    }
    shown = [_message(entry) for message in view.messages for entry in message.entries]
    for message in shown:
        if message.get("tool_call_id") in elsewhere:
            message.pop("tool_call_error", None)
    return shown


def _message(entry: TranscriptEntry) -> dict[str, Any]:
    output: dict[str, Any] = {
        "id": entry.id,
        "content": entry.content,
        "from_history": False,
        "stop_after_tool_call": False,
        "role": entry.role,
        "tool_call_id": entry.tool_call_id,
        "tool_name": entry.tool_name,
        "tool_args": entry.tool_args,
        "tool_call_error": entry.tool_call_error,
        "tool_calls": [_call_made(*call) for call in entry.tool_calls] or None,
        "created_at": int(entry.created_at.timestamp()),
    }
    return {key: value for key, value in output.items() if value is not None}


def _call_made(call_id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": to_json(arguments).decode()}}


def _metrics(run: Run) -> dict[str, Any] | None:
    if run.status in {RunStatus.PENDING, RunStatus.RUNNING}:
        return None
    ended = run.ended_at or run.updated_at
    return {**(run.usage or {}), "duration": (ended - run.created_at).total_seconds()}


def _call_metrics(call: ToolCall) -> dict[str, float] | None:
    if call.started_at is None or call.finished_at is None:
        return None
    return {
        "start_time": call.started_at.timestamp(),
        "end_time": call.finished_at.timestamp(),
        "duration": _seconds(call),
    }


def _seconds(call: ToolCall) -> float:
    if call.started_at is None or call.finished_at is None:
        return 0.0
    return (call.finished_at - call.started_at).total_seconds()
