"""The audit trail's entries as both APIs show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unpause.domain.audit import AuditEntry


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
