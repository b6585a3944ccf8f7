"""The client's objects as plain JSON, for the test to read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeAlias

import httpx

# agno has no stubs here, and nothing of it is installed where these files are checked.
Client: TypeAlias = Any
AgnoObject: TypeAlias = Any

Json: TypeAlias = dict[str, Any]

AGENT = "desk"


def show_run(run: AgnoObject) -> Json:
    """Return what the client made of a run."""
    return {
        "run_id": run.run_id,
        "agent_id": run.agent_id,
        "session_id": run.session_id,
        "user_id": run.user_id,
        "status": getattr(run.status, "value", run.status),
        "content": run.content,
        "model": run.model,
        "is_paused": run.is_paused,
        "tools": [tool.to_dict() for tool in run.tools or []],
        "requirements": [show_requirement(requirement) for requirement in run.requirements or []],
        "open": [requirement.tool_execution.tool_call_id for requirement in run.active_requirements],
        "messages": [[message.role, message.content] for message in run.messages or []],
        "input": run.input.input_content if run.input else None,
    }


def show_requirement(requirement: AgnoObject) -> Json:
    """Return what the client made of a requirement."""
    return {
        "id": requirement.id,
        "tool": requirement.tool_execution.tool_name,
        "confirmation": requirement.confirmation,
        "needs_confirmation": requirement.needs_confirmation,
        "needs_user_input": requirement.needs_user_input,
        "needs_external_execution": requirement.needs_external_execution,
        "is_resolved": requirement.is_resolved(),
    }


async def collect(stream: AsyncIterator[AgnoObject]) -> list[AgnoObject]:
    """Return all events of a stream."""
    return [event async for event in stream]


def names_of(events: list[AgnoObject]) -> list[str]:
    """Return the names of the events, one for each row of pieces of text."""
    names = [event.event for event in events]
    return [name for place, name in enumerate(names) if name != "RunContent" or names[place - 1] != "RunContent"]


def text_of(events: list[AgnoObject]) -> str:
    """Return the pieces of text put together."""
    return "".join(event.content for event in events if event.event == "RunContent")


def tools_of(run: AgnoObject) -> list[AgnoObject]:
    """Return the tool executions behind the requirements that are open: answering the one answers the other."""
    return [requirement.tool_execution for requirement in run.active_requirements]


async def raised(requested: Awaitable[AgnoObject]) -> list[object]:
    """Return the class, the status and the detail of what the client raises; an empty list where it raises nothing."""
    try:
        await requested
    except httpx.HTTPStatusError as error:
        response = error.response
        # The client does not read the body of a stream that is refused.
        detail = response.json()["detail"] if response.is_stream_consumed else None
        return [type(error).__name__, response.status_code, detail]
    return []
