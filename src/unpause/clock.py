"""Time and new ids; tests replace both."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import uuid4

# A hundred years: a longer time, or what is not a number, would only fail when it is added to a date.
LONGEST_SECONDS = 100 * 366 * 24 * 60 * 60.0


class Clock(Protocol):
    """Source of the time."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock, or that of the database where several machines share one.

    After ``synchronize`` it advances by itself: a step of the machine's clock does not move it.
    """

    def __init__(self) -> None:
        # The other clock's time, and the elapsed seconds at that moment; None before ``synchronize``.
        self._set: tuple[datetime, float] | None = None

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        if self._set is None:
            return datetime.now(UTC)
        shown, at = self._set
        return shown + timedelta(seconds=elapsed_seconds() - at)

    def synchronize(self, other: datetime) -> None:
        """Follow another clock, which shows ``other`` now."""
        self._set = (other, elapsed_seconds())


def elapsed_seconds() -> float:
    """Return the seconds since some moment; setting the machine's clock does not change them."""
    # Prefer a counter that includes the time while the machine is suspended.
    return time.clock_gettime(_COUNTER) if _COUNTER is not None else time.monotonic()


_COUNTER: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def delays(first_seconds: float = 0.5, last_seconds: float = 30.0) -> Iterator[float]:
    """Yield without end the seconds to wait before each retry: doubling from the first to the last."""
    delay = first_seconds
    while True:
        yield delay
        delay = min(2 * delay, last_seconds)


class Ids(Protocol):
    """Source of new ids."""

    def fresh(self) -> str:
        """Return a new id: a UUID's 36 characters."""
        ...


class RandomIds:
    """Version 4 UUIDs."""

    def fresh(self) -> str:
        """Return a new random UUID."""
        return str(uuid4())
