"""AgentOS's routes for approvals."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json
from starlette.responses import Response

from unpause.api.agentos.caller import Caller
from unpause.api.agentos.replies import json_response
from unpause.api.agentos.wire.pages import page_at, page_json
from unpause.api.agentos.wire.responses import CONFLICT, ERRORS
from unpause.api.agentos.wire.tools import requirement as requirement_json
from unpause.api.answers import answer
from unpause.api.dependencies import App
from unpause.api.errors import AgnoRoute
from unpause.api.idempotency import IdempotencyKey, fields_of, read_request_key, respond_once
from unpause.domain.approvals import ApprovalFilter, ApprovalStatus
from unpause.domain.paging import Page
from unpause.domain.runs import ToolCall
from unpause.services.commands import ResolveApproval

if TYPE_CHECKING:
    from datetime import datetime

    from unpause.domain.approvals import Approval
    from unpause.domain.requirements import Requirement

router = APIRouter(route_class=AgnoRoute, tags=["Approvals"], responses=ERRORS)


class ApprovalResolve(BaseModel):
    """A decision; ``resolution_data`` may bring the values or the result that the call also needs."""

    model_config = ConfigDict(extra="ignore")

    status: str = Field(pattern="^(approved|rejected)$")
    resolved_by: str | None = Field(default=None, max_length=255)
    resolution_data: dict[str, Any] | None = None


def read_filter(  # noqa: PLR0913, PLR0917 - the fields of the wire
    status: Annotated[Literal["pending", "approved", "rejected", "expired", "cancelled"] | None, Query()] = None,
    source_type: Annotated[str | None, Query()] = None,
    approval_type: Annotated[Literal["required", "audit"] | None, Query()] = None,
    pause_type: Annotated[Literal["confirmation", "user_input", "external_execution"] | None, Query()] = None,
    agent_id: Annotated[str | None, Query()] = None,
    team_id: Annotated[str | None, Query()] = None,
    workflow_id: Annotated[str | None, Query()] = None,
    user_id: Annotated[str | None, Query()] = None,
    schedule_id: Annotated[str | None, Query()] = None,
    run_id: Annotated[str | None, Query()] = None,
) -> ApprovalFilter | None:
    """Return the filter; None where nothing can match, since only agents have approvals here."""
    if team_id or workflow_id or schedule_id or source_type not in {None, "agent"}:
        return None
    return ApprovalFilter(
        status=ApprovalStatus(status) if status else None,
        approval_type=approval_type,
        pause_type=pause_type,
        agent_id=agent_id,
        user_id=user_id,
        run_id=run_id,
    )


@router.get(
    "/approvals",
    operation_id="list_approvals_approvals_get",
    response_model=None,
    responses=answer("PaginatedResponse_ApprovalResponse_", "The approvals, newest first"),
)
async def list_approvals(
    application: App,
    caller: Caller,
    selection: Annotated[ApprovalFilter | None, Depends(read_filter)],
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> Response:
    """Return a page of approvals, newest first."""
    chosen = page_at(page, limit)
    if selection is None:
        return json_response({"data": [], "meta": page_json(chosen, 0)})
    found, total = await application.approvals.list_approvals(caller, selection, chosen)
    return json_response({"data": [approval_json(*item) for item in found], "meta": page_json(chosen, total)})


@router.get(
    "/approvals/count",
    operation_id="get_approval_count_approvals_count_get",
    response_model=None,
    responses=answer("ApprovalCountResponse", "The number of pending approvals"),
)
async def count_approvals(application: App, caller: Caller, user_id: Annotated[str | None, Query()] = None) -> Response:
    """Return how many approvals are pending."""
    selection = ApprovalFilter(status=ApprovalStatus.PENDING, user_id=user_id)
    _, total = await application.approvals.list_approvals(caller, selection, Page(limit=1))
    return json_response({"count": total})


@router.get(
    "/approvals/{approval_id}",
    operation_id="get_approval_approvals__approval_id__get",
    response_model=None,
    responses=answer("ApprovalResponse", "The approval"),
)
async def get_approval(application: App, caller: Caller, approval_id: str) -> Response:
    """Return one approval, with the requirement it decides."""
    approval, requirement = await application.approvals.get_approval(caller, approval_id)
    return json_response(approval_json(approval, requirement))


@router.get(
    "/approvals/{approval_id}/status",
    operation_id="get_approval_status_approvals__approval_id__status_get",
    response_model=None,
    responses=answer("ApprovalStatusResponse", "The status"),
)
async def get_approval_status(application: App, caller: Caller, approval_id: str) -> Response:
    """Return the status, for clients that poll."""
    approval, _ = await application.approvals.get_approval(caller, approval_id)
    return json_response(
        {
            "approval_id": approval.id,
            "status": approval.status.value,
            "run_id": approval.run_id,
            "resolved_at": _seconds(approval.resolved_at),
            "resolved_by": approval.resolved_by,
        }
    )


@router.post(
    "/approvals/{approval_id}/resolve",
    operation_id="resolve_approval_approvals__approval_id__resolve_post",
    response_model=None,
    responses={**answer("ApprovalResponse", "The approval, decided"), **CONFLICT},
)
async def resolve_approval(
    application: App, caller: Caller, approval_id: str, body: ApprovalResolve, idempotency_key: IdempotencyKey = None
) -> Response:
    """Decide a pending approval, once. The run stays paused until it is continued."""
    command = ResolveApproval(
        approval_id,
        approved=body.status == "approved",
        data=body.resolution_data,
    )
    decider = caller.acting_for(body.resolved_by)
    request_key = read_request_key(
        decider, idempotency_key, "agentos.resolve_approval", **fields_of(command), user_id=decider.user_id
    )
    resolved = await application.approvals.resolve_approval(decider, command, request_key)

    async def make() -> bytes:
        return to_json(approval_json(resolved.approval, resolved.requirement))

    return await respond_once(application, request_key, resolved.answer, make)


@router.delete(
    "/approvals/{approval_id}",
    operation_id="delete_approval_approvals__approval_id__delete",
    status_code=204,
    response_model=None,
)
async def delete_approval(application: App, caller: Caller, approval_id: str) -> Response:
    """Delete the record; a call that still waits for it is rejected."""
    await application.approvals.delete_approval(caller, approval_id)
    return Response(status_code=204)


def approval_json(approval: Approval, requirement: Requirement) -> dict[str, Any]:
    """Return an approval as AgentOS does: with all keys, nulls included."""
    return {
        "id": approval.id,
        "run_id": approval.run_id,
        "session_id": approval.session_id,
        "status": approval.status.value,
        "source_type": "agent",
        "approval_type": approval.approval_type,
        "pause_type": approval.pause_type.value,
        "tool_name": approval.tool_name,
        "tool_args": approval.tool_args,
        "expires_at": _seconds(approval.expires_at),
        "agent_id": approval.agent_id,
        "team_id": None,
        "workflow_id": None,
        "user_id": approval.user_id,
        "schedule_id": None,
        "schedule_run_id": None,
        "source_name": approval.agent_id,
        "requirements": _requirements(approval, requirement),
        "context": {"tool_names": [approval.tool_name], "source_name": approval.agent_id},
        "resolution_data": approval.resolution_data,
        "resolved_by": approval.resolved_by,
        "resolved_at": _seconds(approval.resolved_at),
        "created_at": _seconds(approval.created_at),
        "updated_at": _seconds(approval.updated_at),
        "run_status": approval.run_status.value,
    }


def _requirements(approval: Approval, requirement: Requirement) -> list[dict[str, Any]] | None:
    if approval.approval_type != "required":
        return None
    # Open, as it was shown to the administrator: the decision has keys of its own.
    requirement = replace(requirement, answer=None)
    call = ToolCall(
        requirement.call_id, requirement.tool_name, requirement.tool_args, 0, 0, created_at=requirement.created_at
    )
    return [requirement_json(requirement, (call,))]


def _seconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp())
