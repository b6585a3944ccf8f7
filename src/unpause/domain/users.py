"""Organizations and their users."""

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
    """The owner of runs, sessions and users."""

    id: int
    name: str
