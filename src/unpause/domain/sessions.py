"""Sessions: the conversations that runs belong to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Session:
    """One conversation; ``key`` is the database's, ``session_id`` the client's name for it.

    ``agent_id`` is empty until an agent has a run in it. ``summary`` is a client's own.
    """

    key: int
    session_id: str
    agent_id: str
    created_at: datetime
    updated_at: datetime
    user_id: str | None = None
    session_name: str | None = None
    session_state: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None
    summary: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to create, where there is none with its id."""

    session_id: str
    agent_id: str
    name: str | None = None
    state: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions a list shows, and in which order; None means any, and an empty text matches nothing."""

    agent_id: str | None = None
    user_id: str | None = None
    session_name: str | None = None
    sort_by: str = "created_at"
    descending: bool = True
