"""Runs and their messages as AgentOS's JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from unpause.api.agentos.wire.tools import confirmed_by, requirement, tool_execution
from unpause.domain.requirements import RequirementKind
from unpause.domain.runs import Run, RunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from unpause.domain.requirements import Requirement
    from unpause.domain.runs import RunView, TranscriptEntry

# The fixed texts of a pause without text of the model; the last call that waits decides.
_PAUSE_TEXT = {
    RequirementKind.CONFIRMATION: "I have tools to execute, but I need confirmation.",
    RequirementKind.USER_INPUT: "I have tools to execute, but I need user input.",
    RequirementKind.EXTERNAL_EXECUTION: "I have tools to execute, but it needs external execution.",
}
# As many characters as AgentOS 3.1.10 shows.
_PREVIEW_CHARACTERS = 280


def run_output(view: RunView, *, stored: bool, for_admin: bool = False) -> dict[str, Any]:
    """Return a ``RunOutput``, absent keys left out; ``stored`` adds those of a run that is read back.

    ``for_admin`` adds the traceback of one that failed.
    """
    run = view.run
    output = {
        "run_id": run.run_id,
        "agent_id": run.agent_id,
        "agent_name": run.agent_id,
        "session_id": run.session_id,
        "user_id": run.user_id,
        "content": structured(content_of(view), run.content_type),
        "content_type": run.content_type,
        "model": run.model,
        "model_provider": run.model_provider,
        "session_state": run.session_state or {},
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
        "traceback": run.traceback if for_admin else None,
    }
    return {key: value for key, value in output.items() if value is not None}


def run_schema(view: RunView, *, for_admin: bool = False) -> dict[str, Any]:
    """Return a ``RunSchema``, the form of a run in lists: nulls included.

    ``for_admin`` adds the traceback of one that failed.
    """
    run = view.run
    traceback = {"traceback": run.traceback} if for_admin and run.traceback is not None else {}
    output = run_output(view, stored=True)
    return {
        **traceback,
        "run_id": run.run_id,
        "parent_run_id": "",
        "agent_id": run.agent_id,
        "user_id": run.user_id,
        "status": run.status.value,
        "run_input": run.prompt,
        "content": output.get("content"),
        "run_response_format": "text" if run.content_type == "str" else "json",
        "reasoning_content": "",
        "reasoning_steps": [],
        "metrics": output.get("metrics"),
        "messages": output["messages"],
        "tools": output["tools"],
        "events": None,
        "created_at": moment(run.created_at),
        "references": [],
        "citations": None,
        "reasoning_messages": [],
        "session_state": run.session_state or {},
        "images": [],
        "videos": [],
        "audio": [],
        "files": [],
        "response_audio": None,
        "input_media": {"images": [], "videos": [], "audios": [], "files": []},
    }


def content_of(view: RunView) -> str | None:
    """Return the run's last text; for a pause without text of the model, what the pause is for."""
    run = view.run
    if run.content is None and run.status is RunStatus.PAUSED:
        return pause_text([item for item in view.requirements if item.pause_id == run.pause_id])
    return run.content


def pause_text(requirements: Sequence[Requirement]) -> str:
    """Return the text of a pause that waits for these."""
    again = [requirement.message for requirement in requirements if requirement.message]
    if again:
        return " ".join(again)
    return _PAUSE_TEXT[requirements[-1].kind] if requirements else "The run was paused."


def structured(content: str | None, content_type: str) -> object:
    """Return the content as AgentOS does: an object as JSON, all else as text."""
    if content is None or content_type == "str" or not content.startswith("{"):
        return content
    return from_json(content)


def run_preview(view: RunView) -> dict[str, Any]:
    """Return a ``SessionRunPreviewSchema`` of 3.1.10, absent keys left out: a run without its calls and messages."""
    run, content = view.run, content_of(view)
    output = {
        "run_id": run.run_id,
        "parent_run_id": "",
        "agent_id": run.agent_id,
        "user_id": run.user_id,
        "status": run.status.value,
        "run_input": run.prompt[:_PREVIEW_CHARACTERS],
        "content_preview": None if content is None else content[:_PREVIEW_CHARACTERS],
        "created_at": moment(run.created_at),
    }
    return {key: value for key, value in output.items() if value is not None}


def moment(at: datetime) -> str:
    """Return a time as in sessions and lists of runs: ISO 8601 in whole seconds."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def _messages(view: RunView) -> list[dict[str, Any]]:
    # As in tool executions, AgentOS never reports whether an external execution failed.
    external = {
        item.call_id
        for item in view.requirements
        if item.kind is RequirementKind.EXTERNAL_EXECUTION and confirmed_by(item) is not False
    }
    shown = [_message(entry) for message in view.messages for entry in message.entries]
    for message in shown:
        if message.get("tool_call_id") in external:
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
        "tool_calls": [_tool_call(*call) for call in entry.tool_calls] or None,
        "created_at": int(entry.created_at.timestamp()),
    }
    return {key: value for key, value in output.items() if value is not None}


def _tool_call(call_id: str, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": to_json(arguments).decode()}}


def _metrics(run: Run) -> dict[str, Any]:
    if run.status in {RunStatus.PENDING, RunStatus.RUNNING}:
        return {}
    ended = run.ended_at or run.updated_at
    return {**(run.usage or {}), "duration": (ended - run.created_at).total_seconds()}
