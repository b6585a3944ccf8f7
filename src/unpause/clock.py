"""Time and fresh ids, so that tests can hold both still."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol
from uuid import uuid4


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        return datetime.now(UTC)


class Ids(Protocol):
    """Where fresh ids come from."""

    def fresh(self) -> str:
        """Return a new id: a UUID's 36 characters."""
        ...


class RandomIds:
    """Version 4 UUIDs."""

    def fresh(self) -> str:
        """Return a new random UUID."""
        return str(uuid4())
