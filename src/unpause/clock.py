"""Time and fresh ids, so that tests can hold both still."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import uuid4

# A hundred years: a longer time, or what is not a number, would only fail when it is added to a date.
LONGEST_SECONDS = 100 * 366 * 24 * 60 * 60.0


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock, or where several machines work together, that of the database they share.

    Once it was set by another clock it counts on from there by itself: a step of the machine's clock does not move it.
    """

    def __init__(self) -> None:
        # What the other clock showed when so many seconds had gone by; None before it was set.
        self._set: tuple[datetime, float] | None = None

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        if self._set is None:
            return datetime.now(UTC)
        shown, at = self._set
        return shown + timedelta(seconds=elapsed_seconds() - at)

    def synchronize(self, other: datetime) -> None:
        """Go with another clock from now on, which shows ``other`` at this moment."""
        self._set = (other, elapsed_seconds())


def elapsed_seconds() -> float:
    """Return the seconds since some moment, whatever is done to the machine's clock."""
    # Where there is one that counts while the machine is suspended, too.
    return time.clock_gettime(_COUNTER) if _COUNTER is not None else time.monotonic()


_COUNTER: int | None = getattr(time, "CLOCK_BOOTTIME", None)


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
