"""The people of an organization, as they are shown."""

from __future__ import annotations

from dataclasses import dataclass

ADMIN = "ADMIN"


@dataclass(frozen=True, slots=True)
class User:
    """One row of ``users``: runs and sessions carry the ``name``. ``role`` is ADMIN, MANAGER or MEMBER."""

    id: int
    organization_id: int
    name: str
    role: str
    full_name: str | None = None
    email: str | None = None


@dataclass(frozen=True, slots=True)
class Organization:
    """Whom runs, sessions and users belong to."""

    id: int
    name: str
