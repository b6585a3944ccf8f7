"""Time and fresh ids, so that tests can hold both still."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import uuid4


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock, or where several machines work together, that of the database they share."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        return datetime.now(UTC) + self._ahead

    def set_by(self, other: datetime) -> None:
        """Go with another clock from now on, which shows ``other`` at this moment."""
        self._ahead = other - datetime.now(UTC)


def delays(first_seconds: float = 0.5, last_seconds: float = 30.0) -> Iterator[float]:
    """Yield, without end, the seconds to wait before each further try: doubling from the first to the last."""
    delay = first_seconds
    while True:
        yield delay
        delay = min(2 * delay, last_seconds)


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
