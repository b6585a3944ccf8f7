"""Webhooks: who hears of a run, what was said to whom, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from unpause.vault import Sealed


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """An address that hears of runs; what is sent is signed with ``secret``, where there is one."""

    url: str
    secret: Sealed | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one address: ``id`` stays the same however often it is sent, ``payload`` is its JSON text.

    ``attempts`` counts those made, with the one under way.
    """

    id: str
    organization_id: int
    url: str
    payload: str
    created_at: datetime
    secret: Sealed | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of one attempt: the answer's status, or in ``error`` why there is none or why it counts as a failure.

    ``error`` is short and holds neither secrets nor the address.
    """

    status_code: int | None = None
    error: str | None = None

    @property
    def success(self) -> bool:
        """Whether the message arrived: an answer of 200 to 299."""
        return self.error is None
