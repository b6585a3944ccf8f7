"""Tokens as they are kept and listed: everything of them but the secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Token:
    """A token; ``id`` is the part of it that is no secret, ``hash`` the SHA-256 of the whole in hexadecimal.

    Without a ``user_id`` it acts for whomever each request names, as a program does that has users of its own.
    """

    id: str
    organization_id: int
    user_id: str | None
    name: str | None
    hash: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def is_valid(self, now: datetime) -> bool:
        """Whether it counts at this moment."""
        return self.revoked_at is None and not self.is_expired(now)

    def is_expired(self, now: datetime) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now
