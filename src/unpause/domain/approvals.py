"""Approvals: requirements that only an administrator may decide, and the record of who decided."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from unpause.domain.requirements import RequirementKind
from unpause.domain.runs import RunStatus


class ApprovalStatus(StrEnum):
    """Where an approval stands. Only PENDING ones can be resolved."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Approval:
    """One decision on one call. ``approval_type`` is ``required``, or ``audit`` for the record of a user's decision."""

    id: str
    run_key: int
    run_id: str
    session_id: str
    run_status: RunStatus
    status: ApprovalStatus
    approval_type: str
    pause_type: RequirementKind
    tool_name: str
    tool_args: dict[str, Any]
    agent_id: str
    created_at: datetime
    updated_at: datetime
    user_id: str | None = None
    expires_at: datetime | None = None
    resolution_data: dict[str, Any] | None = None
    resolved_by: str | None = None
    resolved_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ApprovalFilter:
    """Which approvals a list shows; None means any."""

    status: ApprovalStatus | None = None
    approval_type: str | None = None
    pause_type: str | None = None
    agent_id: str | None = None
    user_id: str | None = None
    run_id: str | None = None
