"""Tells followers that a run's log has grown; the log is the truth, the bus only a hint."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import asynccontextmanager, contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from unpause.domain.events import Event

# The queue of a slow follower: when it is full, batches are dropped and the follower reads the log.
_LARGEST_BACKLOG = 512


class Signal(StrEnum):
    """What processes that share a database announce about a run, besides that its log has grown."""

    READY = "ready"
    CANCELLED = "cancelled"
    PAUSE = "pause"


# Called with the run's key, or with None where signals of any run may have been missed.
SignalHandler = Callable[[Signal, int | None], None]


class Subscription:
    """One follower of one run: the batches that it has not read yet."""

    def __init__(self) -> None:
        self.is_ended = False
        self._batches: asyncio.Queue[tuple[Event, ...]] = asyncio.Queue(maxsize=_LARGEST_BACKLOG)
        self._has_dropped = False

    def offer(self, events: tuple[Event, ...]) -> None:
        """Queue a committed batch, or drop it where the queue is full; ``next_batch`` then returns an empty one."""
        if self._batches.full():
            self._has_dropped = True
        else:
            self._batches.put_nowait(events)

    def end(self) -> None:
        """End the follower's stream: the server is stopping."""
        self.is_ended = True
        self.offer(())

    async def next_batch(self, timeout_seconds: float | None) -> tuple[Event, ...]:
        """Return the next batch; an empty one when ``timeout_seconds`` passed without any, or batches were dropped."""
        if self._has_dropped and self._batches.empty():
            self._has_dropped = False
            return ()
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._batches.get()
        except TimeoutError:
            return ()


class Bus(Protocol):
    """Where committed events are announced.

    ``poll_seconds`` is how long a follower waits before it reads the log without an announcement;
    None where no announcement can be lost.
    """

    poll_seconds: float | None

    def publish(self, run_key: int, events: Sequence[Event]) -> None:
        """Announce events that are committed."""
        ...

    def subscribed(self, run_key: int) -> AbstractContextManager[Subscription]:
        """Subscribe to a run during the block."""
        ...

    def signal(self, signal: Signal, run_key: int) -> None:
        """Send the signal to the other processes."""
        ...

    def on_signal(self, handler: SignalHandler) -> None:
        """Call ``handler`` for each signal of another process from now on."""
        ...

    def running(self) -> AbstractAsyncContextManager[None]:
        """Exchange announcements with other processes during the block."""
        ...


class InProcessBus:
    """Followers and executor in one process: every commit is announced, nothing is lost."""

    poll_seconds: float | None = None

    def __init__(self) -> None:
        self._subscriptions: defaultdict[int, set[Subscription]] = defaultdict(set)

    def publish(self, run_key: int, events: Sequence[Event]) -> None:
        """Hand the batch to everyone who follows the run."""
        if not events or run_key not in self._subscriptions:
            return
        batch = tuple(events)
        for subscription in self._subscriptions[run_key]:
            subscription.offer(batch)

    def signal(self, signal: Signal, run_key: int) -> None:
        """Do nothing: there is no other process."""

    def on_signal(self, handler: SignalHandler) -> None:
        """Do nothing: there is no other process."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Do nothing: there is no other process."""
        yield

    @contextmanager
    def subscribed(self, run_key: int) -> Iterator[Subscription]:
        """Subscribe to a run during the block."""
        subscription = Subscription()
        self._subscriptions[run_key].add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions[run_key].discard(subscription)
            if not self._subscriptions[run_key]:
                del self._subscriptions[run_key]
