"""The audit trail's entries as both APIs show them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

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


def audit_json(entry: AuditEntry) -> dict[str, Any]:
    """Return an entry; times are ISO 8601."""
    return {
        "id": entry.id,
        "at": entry.at.isoformat(),
        "action": entry.action.value,
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
