"""What the audit trail says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from unpause.domain.principal import Principal


class AuditAction(StrEnum):
    """What somebody did."""

    ANSWERED = "requirement.answered"
    VOTED = "requirement.voted"
    RESOLVED = "approval.resolved"
    APPROVAL_DELETED = "approval.deleted"
    CONTINUED = "run.continued"
    PAUSE_REQUESTED = "run.pause_requested"
    CANCELLED = "run.cancelled"
    RUN_DELETED = "run.deleted"
    SESSION_CHANGED = "session.changed"
    SESSION_DELETED = "session.deleted"
    WEBHOOK_CHANGED = "webhook.changed"
    TOKEN_CREATED = "token.created"  # noqa: S105 - a word, not a token
    TOKEN_REVOKED = "token.revoked"  # noqa: S105 - a word, not a token


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One thing that was done: by the ``actor``, with which token, from which IP address and through which API.

    ``subject`` is the id of what it was done to: a requirement, an approval, a session, a token. ``actor`` None is
    somebody unnamed of a server that asks nobody who they are, or with ``via`` ``expiry`` nobody at all.
    """

    organization_id: int
    at: datetime
    action: AuditAction
    via: str
    actor: str | None = None
    token_id: str | None = None
    address: str | None = None
    run_id: str | None = None
    subject: str | None = None
    decision: str | None = None
    note: str | None = None
    details: Mapping[str, Any] | None = None
    id: int | None = None


def done_by(principal: Principal, action: AuditAction, at: datetime, **said: Any) -> AuditEntry:  # noqa: ANN401
    """Return the entry of what the principal did; ``said`` are further fields of it."""
    return AuditEntry(
        organization_id=principal.organization_id,
        at=at,
        action=action,
        via=principal.via,
        actor=principal.name,
        token_id=principal.token_id,
        address=principal.address,
        **said,
    )
