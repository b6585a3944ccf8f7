"""Idempotency keys: a client sends a request again under the same key, and it takes effect once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A client's key within its organization, with the fingerprint of the request that came with it."""

    organization_id: int
    key: str
    fingerprint: str
