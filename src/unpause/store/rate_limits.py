"""Rate limits: requests in a window of time, counted in the database or in this process alone."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple, Protocol

from sqlalchemy import bindparam, case, delete, func, or_, select

from unpause.store.engine.dialects import Upsert, database_later, database_now
from unpause.store.tables import rate_counts

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from unpause.clock import Clock
    from unpause.store.engine.database import Database

_FORGET_EVERY = timedelta(seconds=60)


class RateCount(NamedTuple):
    """How many requests there were in the window, this one among them, and when the next window may begin."""

    number: int
    ends_at: datetime


class RateCounts(Protocol):
    """Fixed windows: one opens with a key's first request and ends after its length."""

    async def add(self, key: str, window: timedelta) -> RateCount:
        """RateCount one request; raise DatabaseUnavailable where nothing can be counted."""
        ...


class LocalRateCounts:
    """RateCounts in memory, for a process that has its database for itself; a restart forgets them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: dict[str, RateCount] = {}
        self._forget_at = clock.now() + _FORGET_EVERY

    async def add(self, key: str, window: timedelta) -> RateCount:
        """RateCount one request."""
        now = self._clock.now()
        if now >= self._forget_at:
            self._counts = {name: count for name, count in self._counts.items() if count.ends_at > now}
            self._forget_at = now + _FORGET_EVERY
        found = self._counts.get(key)
        # One that ends later than a window from now was counted before the clock was put back.
        if found is None or not now < found.ends_at <= now + window:
            found = RateCount(0, now + window)
        count = RateCount(found.number + 1, found.ends_at)
        self._counts[key] = count
        return count

    def __len__(self) -> int:
        return len(self._counts)


_HAS_ENDED = rate_counts.c.ends_at <= database_now()
_LATER = database_later("window", "ends_at")
# One that ends later than a window from now was counted before the clock was put back.
_IS_OVER = or_(_HAS_ENDED, rate_counts.c.ends_at > _LATER)
_ADD = Upsert(
    rate_counts,
    (rate_counts.c.key,),
    lambda added: {
        "count": case((_IS_OVER, 1), else_=rate_counts.c.count + 1),
        "ends_at": case((_IS_OVER, added.ends_at), else_=rate_counts.c.ends_at),
    },
    values={"key": bindparam("key"), "count": 1, "ends_at": _LATER},
    returning=(
        rate_counts.c.count,
        rate_counts.c.ends_at,
        # A count need not survive a power cut: no request waits for the disk.
        func.set_config("synchronous_commit", "off", True),  # noqa: FBT003 - PostgreSQL's own argument
    ),
)
# Two that delete at once, or delete while others count, would wait for one another in turns.
_FORGET = delete(rate_counts).where(
    rate_counts.c.key.in_(select(rate_counts.c.key).where(_HAS_ENDED).with_for_update(skip_locked=True))
)


class SharedRateCounts:
    """RateCounts in the database, which hold for all processes that use it; PostgreSQL only."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._forget_at = clock.now() + _FORGET_EVERY

    async def add(self, key: str, window: timedelta) -> RateCount:
        """RateCount one request; raise DatabaseUnavailable where nothing can be counted."""
        now = self._clock.now()
        if now >= self._forget_at:
            self._forget_at = now + _FORGET_EVERY
            await self._database.write(forget_counts)
        return await self._database.write(lambda connection: add_count(connection, key, window))


def add_count(connection: Connection, key: str, window: timedelta) -> RateCount:
    """RateCount one request in the key's window, or in a new one where that is over; by the database's clock."""
    row = _ADD.on(connection).all(connection, {"key": key, "window": window})[0]
    return RateCount(row["count"], row["ends_at"])


def forget_counts(connection: Connection) -> None:
    """Delete the windows that have ended."""
    connection.execute(_FORGET)
