"""The entries of the audit trail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from unpause.domain.principal import Principal


class AuditAction(StrEnum):
    """What was done."""

    ANSWERED = "requirement.answered"
    VOTED = "requirement.voted"
    REOPENED = "requirement.reopened"
    RESOLVED = "approval.resolved"
    APPROVAL_DELETED = "approval.deleted"
    GRANTED = "grant.created"
    GRANT_REVOKED = "grant.revoked"
    CONTINUED = "run.continued"
    PAUSE_REQUESTED = "run.pause_requested"
    CANCELLED = "run.cancelled"
    RUN_DELETED = "run.deleted"
    RUNS_PURGED = "runs.purged"
    SESSION_CHANGED = "session.changed"
    SESSION_DELETED = "session.deleted"
    WEBHOOK_CHANGED = "webhook.changed"
    CHANNEL_ADDED = "channel.added"
    CHANNEL_REMOVED = "channel.removed"
    TOKEN_CREATED = "token.created"  # noqa: S105 - a word, not a token
    TOKEN_REVOKED = "token.revoked"  # noqa: S105 - a word, not a token
    SIGNED_IN = "console.signed_in"
    SIGNED_OUT = "console.signed_out"
    AUDIT_PURGED = "audit.purged"
    CHAIN_DROPPED = "audit.chain_dropped"
    USER_ERASED = "user.erased"
    RETENTION_CHANGED = "retention.changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One action: the ``actor``, the token, the IP address and the API that it came through.

    ``subject`` is the id of the requirement, approval, session or token. ``actor`` None is an unnamed client of a
    server without authentication, or the server itself where ``via`` is ``expiry``. Where ``via`` is ``grant``, a grant
    of the actor has decided. ``action`` is one of ``AuditAction``, or of a newer version that shares the database.
    """

    organization_id: int
    at: datetime
    action: str
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


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries to list; None means any. ``since`` is included, ``until`` is not."""

    run_id: str | None = None
    actor: str | None = None
    action: AuditAction | None = None
    since: datetime | None = None
    until: datetime | None = None


def entry_by(principal: Principal, action: AuditAction, at: datetime, **fields: Any) -> AuditEntry:  # noqa: ANN401 - the entry's own
    """Return the entry of the principal's action; ``fields`` are further fields of the entry."""
    return AuditEntry(
        organization_id=principal.organization_id,
        at=at,
        action=action,
        via=principal.via,
        actor=principal.name,
        token_id=principal.token_id,
        address=principal.address,
        **fields,
    )
