"""Approvals."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from unpause.api.agentos.wire.models.tools import RunRequirement
from unpause.domain.approvals import ApprovalStatus
from unpause.domain.requirements import RequirementKind
from unpause.domain.runs import RunStatus


class ApprovalContext(BaseModel):
    """What the approval is about."""

    tool_names: list[str]
    source_name: str


class ApprovalResponse(BaseModel):
    """An approval: a decision on a call that only an administrator may make, or the record of a user's decision."""

    id: str
    run_id: str
    session_id: str
    status: ApprovalStatus
    source_type: Literal["agent"]
    approval_type: Literal["required", "audit"]
    pause_type: RequirementKind
    tool_name: str
    tool_args: dict[str, Any]
    expires_at: int | None = Field(description="Seconds since 1970")
    agent_id: str
    team_id: str | None
    workflow_id: str | None
    user_id: str | None
    schedule_id: str | None
    schedule_run_id: str | None
    source_name: str
    requirements: list[RunRequirement] | None
    context: ApprovalContext
    resolution_data: dict[str, Any] | None
    resolved_by: str | None
    resolved_at: int | None = Field(description="Seconds since 1970")
    created_at: int | None = Field(description="Seconds since 1970")
    updated_at: int | None = Field(description="Seconds since 1970")
    run_status: RunStatus


class ApprovalCountResponse(BaseModel):
    """How many approvals are pending."""

    count: int


class ApprovalStatusResponse(BaseModel):
    """The status of an approval."""

    approval_id: str
    status: ApprovalStatus
    run_id: str
    resolved_at: int | None = Field(description="Seconds since 1970")
    resolved_by: str | None
