"""Codegen's log of a run, made from the events of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from unpause.api.codegen.caller import Member, get_member, renaming_run_not_found
from unpause.api.codegen.wire.pages import Paging, page_numbers
from unpause.api.codegen.wire.runs import OF_RUNS, AgentRunWithLogsResponse
from unpause.api.codegen.wire.translate import agent_run
from unpause.api.dependencies import App, address_of
from unpause.api.errors import CodegenRoute
from unpause.api.json import large_json_response
from unpause.api.rate_limits import Bucket, limited
from unpause.domain.event_payloads import (
    editable_payload,
    form_payload,
    read_call,
    read_requirements,
    votes_payload,
)
from unpause.domain.events import Event, EventSelection, EventType
from unpause.domain.explanations import awaiting_text
from unpause.domain.runs import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from unpause.domain.requirements import Requirement
    from unpause.domain.runs import Run

router = APIRouter(route_class=CodegenRoute, tags=["agents-alpha"])

_OPERATION = "get_agent_run_logs_v1_{}organizations__org_id__agent_run__agent_run_id__logs_get"
_SHARED: dict[str, Any] = {
    "response_model": AgentRunWithLogsResponse,
    "responses": OF_RUNS,
    "dependencies": limited(Bucket.LOGS, get_member),
}
# The keys of the run beside its log.
_OF_RUN = ("id", "organization_id", "status", "created_at", "web_url", "result", "metadata")


# A dependency, so that it comes after those of the page, as the arguments of generated methods do.
def read_reverse(reverse: Annotated[bool, Query()] = False) -> bool:  # noqa: FBT002 - a parameter of the wire
    """Return whether the newest entries come first."""
    return reverse


@router.get(
    "/v1/alpha/organizations/{org_id}/agent/run/{agent_run_id}/logs",
    operation_id=_OPERATION.format("alpha_"),
    **_SHARED,
)
@router.get(
    "/v1/organizations/{org_id}/agent/run/{agent_run_id}/logs",
    operation_id=_OPERATION.format(""),
    **_SHARED,
)
async def get_agent_run_logs(
    application: App,
    principal: Member,
    request: Request,
    agent_run_id: Annotated[int, Path()],
    page: Paging,
    reverse: Annotated[bool, Depends(read_reverse)],
) -> Response:
    """Return a page of a run's log, oldest first unless reversed."""
    with renaming_run_not_found():
        log = await application.run_lists.read_log(
            principal, agent_run_id, EventSelection(_SHOWN, page, newest_first=reverse)
        )
    run = agent_run(log.run, address_of(application, request))
    return await large_json_response(
        {
            **{key: run[key] for key in _OF_RUN},
            "logs": [log_entry(log.run, event) for event in log.events],
            "total_logs": log.total,
            **page_numbers(log.total, page),
        }
    )


def log_entry(run: Run, event: Event) -> dict[str, Any]:
    """Return an event of the run as an ``AgentRunLogResponse`` with all its keys."""
    entry = {
        "agent_run_id": run.id,
        "created_at": event.at.isoformat(),
        "tool_name": None,
        "message_type": None,
        "thought": None,
        "observation": None,
        "tool_input": None,
        "tool_output": None,
    }
    return {**entry, **_ENTRIES[event.type](run, event.payload)}


def _user_message(message: dict[str, Any]) -> dict[str, Any]:
    return {"message_type": "USER_MESSAGE", "tool_name": "user_input", "tool_input": message, "tool_output": {}}


def _started(run: Run, _: Mapping[str, Any]) -> dict[str, Any]:
    return _user_message({"prompt": run.prompt})


def _continued(_: Run, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of a human's prompt, decisions, or both."""
    return _user_message({key: payload[key] for key in ("prompt", "answers") if payload.get(key) is not None})


def _planned(_: Run, payload: Mapping[str, Any]) -> dict[str, Any]:
    return {"message_type": "PLAN_EVALUATION", "thought": payload["said"]}


def _called(_: Run, payload: Mapping[str, Any]) -> dict[str, Any]:
    call = read_call(payload)
    # The text that the model read, not the framework's own form of the result.
    text = call.result_text or ""
    return {
        "message_type": "ACTION",
        "tool_name": call.tool_name,
        "tool_input": call.tool_args,
        "tool_output": {"result": text} if call.outcome is Outcome.SUCCESS else {"error": text},
    }


def _paused(_: Run, payload: Mapping[str, Any]) -> dict[str, Any]:
    present = [item for item in read_requirements(payload) if item.pause_id == payload["pause_id"] and item.is_open]
    return {
        "message_type": "PLAN_EVALUATION",
        "thought": awaiting_text(present),
        "observation": {"pause_id": payload["pause_id"], "requirements": [_awaited(item) for item in present]},
    }


def _awaited(requirement: Requirement) -> dict[str, Any]:
    """Return a call that waits, with all that ``tools`` of a resume needs."""
    form = form_payload(requirement)
    return {
        "tool_call_id": requirement.tool_call_id,
        "tool_name": requirement.tool_name,
        "tool_args": requirement.tool_args,
        "kind": requirement.kind.value,
        "fields": [field.name for field in requirement.fields if field.open],
        **({"user_input_schema": form} if form else {}),
        **editable_payload(requirement),
        "approval_id": requirement.id if requirement.approval == "required" else None,
        "expires_at": requirement.expires_at.isoformat() if requirement.expires_at else None,
        **votes_payload(requirement),
    }


def _completed(_: Run, payload: Mapping[str, Any]) -> dict[str, Any]:
    return {"message_type": "FINAL_ANSWER", "observation": payload["content"]}


def _failed(_: Run, payload: Mapping[str, Any]) -> dict[str, Any]:
    return {"message_type": "ERROR", "observation": payload["content"]}


def _cancelled(run: Run, _: Mapping[str, Any]) -> dict[str, Any]:
    return {"message_type": "ERROR", "observation": run.content or ""}


_ENTRIES: Mapping[EventType, Callable[[Run, Mapping[str, Any]], dict[str, Any]]] = {
    EventType.RUN_STARTED: _started,
    EventType.RUN_CONTINUED: _continued,
    EventType.MODEL_REQUEST_COMPLETED: _planned,
    EventType.TOOL_CALL_COMPLETED: _called,
    EventType.RUN_PAUSED: _paused,
    EventType.RUN_COMPLETED: _completed,
    EventType.RUN_FAILED: _failed,
    EventType.RUN_CANCELLED: _cancelled,
}
# Of the model's responses only those with text before their tool calls.
_SHOWN: Mapping[EventType, str | None] = {**dict.fromkeys(_ENTRIES), EventType.MODEL_REQUEST_COMPLETED: "said"}
