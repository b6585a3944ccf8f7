"""How long what is over is kept, by the server's settings and by an organization's own."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class RetentionKind(StrEnum):
    """What is kept for some time: by the name of its setting, and of an organization's column."""

    ENDED_RUNS = "keep_ended_runs"
    AUDIT = "keep_audit"
    DELIVERIES = "keep_deliveries"


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """The server's settings; None keeps forever."""

    keep_ended_runs: timedelta | None = None
    keep_audit: timedelta | None = None
    keep_deliveries: timedelta | None = None

    def of(self, kind: RetentionKind) -> timedelta | None:
        """Return how long that is kept."""
        found: timedelta | None = getattr(self, kind.value)
        return found


@dataclass(frozen=True, slots=True)
class RetentionScope:
    """Whose rows: those of one organization, of all that have no rule of their own for ``without_own``, or of all."""

    organization_id: int | None = None
    without_own: RetentionKind | None = None
