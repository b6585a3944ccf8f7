"""A run's events as AgentOS's frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from unpause.api.agentos.wire.runs import pause_text, structured
from unpause.api.agentos.wire.tools import requirement, seconds_of, tool_execution
from unpause.domain.event_payloads import read_call, read_calls, read_requirements
from unpause.domain.events import Event, EventType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unpause.api.sse import Frame
    from unpause.domain.runs import Run

# The events of a stream with ``stream_events=false``.
_ESSENTIAL = frozenset({EventType.CONTENT_DELTA, EventType.RUN_PAUSED, EventType.RUN_FAILED, EventType.RUN_CANCELLED})


def framer(run: Run, *, deltas_only: bool = False) -> Callable[[Event], Frame]:
    """Return the translation of this run's events into frames; with ``deltas_only`` of the essential events only."""
    base = {
        "agent_id": run.agent_id,
        "agent_name": run.agent_id,
        "run_id": run.run_id,
        "session_id": run.session_id,
    }

    def frame(event: Event) -> Frame:
        if deltas_only and event.type not in _ESSENTIAL:
            return None
        name, fields = _TRANSLATIONS[event.type](event, run)
        index = {"event_index": event.sequence - 1}
        data = {"created_at": int(event.at.timestamp()), "event": name, **base, **fields, **index}
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
    content = f"{call.tool_name}({arguments}) completed in {seconds_of(call):.4f}s. "
    return "ToolCallCompleted", {"content": content, "tool": tool_execution(call, call.requirement, live=True)}


def _call_failed(event: Event, _run: Run) -> Translated:
    call = read_call(event.payload)
    return "ToolCallError", {
        "tool": tool_execution(call, call.requirement, live=True),
        "error": event.payload.get("error"),
    }


def _paused(event: Event, _run: Run) -> Translated:
    calls, requirements, pause_id = (
        read_calls(event.payload),
        read_requirements(event.payload),
        event.payload["pause_id"],
    )
    waiting = [item for item in requirements if item.pause_id == pause_id and item.is_open]
    return "RunPaused", {
        "content": event.payload["content"] or pause_text(waiting),
        "tools": [tool_execution(call, call.requirement) for call in calls],
        "requirements": [requirement(item, calls) for item in requirements],
        "pause_id": pause_id,
    }


def _completed(event: Event, run: Run) -> Translated:
    duration = (event.at - run.created_at).total_seconds()
    return "RunCompleted", {
        "content": structured(event.payload["content"], event.payload["content_type"]),
        "content_type": event.payload["content_type"],
        "session_state": run.session_state or {},
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
    EventType.PAUSE_REMINDER: _with_payload("PauseReminder"),
}
