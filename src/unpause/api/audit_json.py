"""The audit trail's entries as both APIs show them, and the parameters that choose some."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Query
from pydantic import BaseModel

from unpause.api.time_parameters import Moment
from unpause.domain.audit import AuditAction, AuditFilter

if TYPE_CHECKING:
    from unpause.domain.audit import AuditEntry


class AuditEntryResponse(BaseModel):
    """An action: its actor, time, API, token and IP address."""

    id: int
    at: datetime
    action: str
    actor: str | None
    via: str
    token_id: str | None
    address: str | None
    run_id: str | None
    subject: str | None
    decision: str | None
    note: str | None
    details: dict[str, Any] | None


def read_audit_filter(
    run_id: Annotated[str | None, Query(max_length=36, description="The run's UUID")] = None,
    actor: Annotated[str | None, Query(max_length=255)] = None,
    action: AuditAction | None = None,
    since: Annotated[Moment | None, Query(description="At this time or later")] = None,
    until: Annotated[Moment | None, Query(description="Before this time")] = None,
) -> AuditFilter:
    """Return which entries to list; by default all of the organization."""
    return AuditFilter(run_id, actor, action, since, until)


def audit_json(entry: AuditEntry) -> dict[str, Any]:
    """Return an entry; times are ISO 8601."""
    return {
        "id": entry.id,
        "at": entry.at.isoformat(),
        "action": entry.action,
        "actor": entry.actor,
        "via": entry.via,
        "token_id": entry.token_id,
        "address": entry.address,
        "run_id": entry.run_id,
        "subject": entry.subject,
        "decision": entry.decision,
        "note": entry.note,
        "details": entry.details,
    }
