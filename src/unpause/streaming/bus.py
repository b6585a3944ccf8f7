"""Announces that a run's log has grown; the log is the truth, the bus only a hint."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import asynccontextmanager, contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from unpause.tasks import Wakeup
from unpause.telemetry.metrics import FOLLOWERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

    from unpause.domain.events import Event
    from unpause.domain.runs import RunView

# The queue of a slow follower: when it is full, batches are dropped and the follower reads the log.
_LARGEST_BACKLOG = 512
# For how many runs it is known when events of them were announced last.
_MAX_RECENT = 1024


class Signal(StrEnum):
    """What processes that share a database announce about a run, besides that its log has grown."""

    READY = "ready"
    CANCELLED = "cancelled"
    PAUSE = "pause"


# Called with the run's key, or with None where signals of any run may have been missed.
SignalHandler = Callable[[Signal, int | None], None]
# Called with the key of a run whose requirements have changed, or with None where changes may have been missed.
RequirementsHandler = Callable[[int | None], None]
# Called with an organization of which open requests were deleted, or with None where that may have been missed.
DeletionHandler = Callable[[int | None], None]


class Subscription:
    """One follower of one run: the batches that it has not read yet. There may be thousands."""

    __slots__ = ("_batches", "_has_dropped", "_wakeup", "end_view", "is_ended", "is_live")

    def __init__(self, *, is_live: bool = True) -> None:
        """``is_live`` where each event is shown as it comes, and not only the end waited for."""
        self.is_live = is_live
        self.is_ended = False
        self.end_view: RunView | None = None
        """The run at the end of its newest segment, where that ran in this process during the subscription."""
        # A deque or a queue takes ten times the memory of an empty list.
        self._batches: list[tuple[Event, ...]] = []
        self._has_dropped = False
        self._wakeup = Wakeup()

    def offer(self, events: tuple[Event, ...]) -> None:
        """Queue a committed batch, or drop it where the queue is full; ``next_batch`` then returns an empty one."""
        if len(self._batches) >= _LARGEST_BACKLOG:
            self._has_dropped = True
            return
        self._batches.append(events)
        self._wakeup.wake()

    def end(self) -> None:
        """End the follower's stream: the server is stopping."""
        self.is_ended = True
        self.offer(())

    async def next_batch(self, timeout_seconds: float | None) -> tuple[Event, ...]:
        """Return the next batch; an empty one when ``timeout_seconds`` passed without any, or batches were dropped."""
        if not self._batches and self._has_dropped:
            self._has_dropped = False
            return ()
        if not self._batches:
            try:
                async with asyncio.timeout(timeout_seconds):
                    await self._wakeup.wait()
            except TimeoutError:
                return ()
        return self._batches.pop(0)


class Bus(Protocol):
    """Where committed events are announced.

    ``poll_seconds`` is how long a follower waits before it reads the log without an announcement;
    None where no announcement can be lost.
    """

    poll_seconds: float | None

    @property
    def is_notified(self) -> bool:
        """Whether signals of other processes arrive, as far as this process knows; one may get lost all the same."""
        ...

    def publish(self, run_key: int, events: Sequence[Event], end_view: RunView | None = None) -> None:
        """Announce events that are committed; ``end_view`` is the run as they left it, where they end a segment."""
        ...

    def position(self) -> int:
        """Return the number of announcements so far in this process."""
        ...

    def has_published(self, run_key: int, since: int) -> bool:
        """Whether events of the run may have been announced in this process after that position."""
        ...

    def subscribed(self, run_key: int, *, is_live: bool = True) -> AbstractContextManager[Subscription]:
        """Subscribe to a run during the block."""
        ...

    def is_watched(self, run_key: int) -> bool:
        """Whether somebody is shown the run's events as they come, as far as this process knows."""
        ...

    def followed(self) -> list[int]:
        """Return the runs that are followed in this process."""
        ...

    def wake(self, run_key: int) -> None:
        """Have each follower of the run in this process read the log."""
        ...

    def signal(self, signal: Signal, run_key: int) -> None:
        """Send the signal to the other processes."""
        ...

    def on_signal(self, handler: SignalHandler) -> None:
        """Call ``handler`` for each signal of another process from now on."""
        ...

    def requirements_changed(self, run_key: int) -> None:
        """Announce that what the run waits for has changed, and is committed."""
        ...

    def on_requirements_changed(self, handler: RequirementsHandler) -> None:
        """Call ``handler`` for each such announcement of any process from now on."""
        ...

    def requests_deleted(self, organization_id: int) -> None:
        """Announce that open requests of the organization were deleted with their runs, which is committed."""
        ...

    def on_requests_deleted(self, handler: DeletionHandler) -> None:
        """Call ``handler`` for each such announcement of any process from now on."""
        ...

    def running(self) -> AbstractAsyncContextManager[None]:
        """Exchange announcements with other processes during the block."""
        ...


class InProcessBus:
    """Followers and executor in one process: every commit of a server is announced, nothing is lost.

    What a command writes beside the server ``execution.outside_changes`` finds.
    """

    poll_seconds: float | None = None

    @property
    def is_notified(self) -> bool:
        """Return True: there is no other process."""
        return True

    def __init__(self) -> None:
        self._subscriptions: defaultdict[int, set[Subscription]] = defaultdict(set)
        self._position = 0
        # The runs of the newest announcements, each with its position, and how far the forgotten ones came.
        self._recent: dict[int, int] = {}
        self._forgotten = 0
        self._requirements_handlers: list[RequirementsHandler] = []
        self._deletion_handlers: list[DeletionHandler] = []

    def publish(self, run_key: int, events: Sequence[Event], end_view: RunView | None = None) -> None:
        """Hand the batch to everyone who follows the run."""
        if not events:
            return
        self._position += 1
        self._recent.pop(run_key, None)
        self._recent[run_key] = self._position
        if len(self._recent) > _MAX_RECENT:
            self._forgotten = self._recent.pop(next(iter(self._recent)))
        if run_key not in self._subscriptions:
            return
        batch = tuple(events)
        for subscription in self._subscriptions[run_key]:
            if end_view is not None:
                subscription.end_view = end_view
            subscription.offer(batch)

    def position(self) -> int:
        """Return the number of announcements so far in this process."""
        return self._position

    def has_published(self, run_key: int, since: int) -> bool:
        """Whether events of the run may have been announced in this process after that position."""
        return self._forgotten > since or self._recent.get(run_key, 0) > since

    def followed(self) -> list[int]:
        """Return the runs that are followed in this process."""
        return list(self._subscriptions)

    def wake(self, run_key: int) -> None:
        """Have each follower of the run in this process read the log."""
        for subscription in self._subscriptions.get(run_key, ()):
            subscription.offer(())

    def signal(self, signal: Signal, run_key: int) -> None:
        """Do nothing: there is no other process."""

    def on_signal(self, handler: SignalHandler) -> None:
        """Do nothing: there is no other process."""

    def requirements_changed(self, run_key: int) -> None:
        """Call the handlers of this process."""
        self._call_requirements_handlers(run_key)

    def on_requirements_changed(self, handler: RequirementsHandler) -> None:
        """Call ``handler`` for each announcement of any process from now on."""
        self._requirements_handlers.append(handler)

    def _call_requirements_handlers(self, run_key: int | None) -> None:
        for handler in self._requirements_handlers:
            handler(run_key)

    def requests_deleted(self, organization_id: int) -> None:
        """Call the handlers of this process."""
        self._call_deletion_handlers(organization_id)

    def on_requests_deleted(self, handler: DeletionHandler) -> None:
        """Call ``handler`` for each announcement of any process from now on."""
        self._deletion_handlers.append(handler)

    def _call_deletion_handlers(self, organization_id: int | None) -> None:
        for handler in self._deletion_handlers:
            handler(organization_id)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Do nothing: there is no other process."""
        yield

    def is_watched(self, run_key: int) -> bool:
        """Whether somebody is shown the run's events as they come, as far as this process knows."""
        return any(subscription.is_live for subscription in self._subscriptions.get(run_key, ()))

    @contextmanager
    def subscribed(self, run_key: int, *, is_live: bool = True) -> Iterator[Subscription]:
        """Subscribe to a run during the block."""
        subscription = Subscription(is_live=is_live)
        self._subscriptions[run_key].add(subscription)
        FOLLOWERS.inc()
        try:
            yield subscription
        finally:
            FOLLOWERS.dec()
            self._subscriptions[run_key].discard(subscription)
            if not self._subscriptions[run_key]:
                del self._subscriptions[run_key]
