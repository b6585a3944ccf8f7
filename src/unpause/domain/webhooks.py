"""Webhooks: who hears of a run, and what was said to whom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """An address that hears of runs; ``secret`` signs what is sent, and is encrypted wherever it is kept."""

    url: str
    secret: str | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one address: ``id`` stays the same however often it is sent, ``payload`` is its JSON text.

    ``attempts`` counts those made.
    """

    id: str
    organization_id: int
    url: str
    payload: str
    created_at: datetime
    secret: str | None = None
    attempts: int = 0
