"""Tokens as they are stored and listed: without the secret."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from unpause.domain.principal import Principal


@dataclass(frozen=True, slots=True)
class Token:
    """A token: ``id`` is its public part, ``hash`` the hexadecimal SHA-256 of the whole.

    A token without a ``user_id`` acts for the user that each request names, for programs with users of their own.
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

    @property
    def principal(self) -> Principal:
        """The caller that presents it."""
        return Principal(
            self.organization_id,
            self.user_id,
            subject=self.user_id,
            scopes=frozenset(self.scopes),
            token_id=self.id,
            expires_at=self.expires_at,
        )

    def is_valid(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked_at is None and not self.is_expired(now)

    def is_expired(self, now: datetime) -> bool:
        """Whether it has expired."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class ConsoleCredential:
    """A browser's session in the console, or a one-time link: for a time it acts as the token of this id."""

    hash: str
    token_id: str
    created_at: datetime
    expires_at: datetime
