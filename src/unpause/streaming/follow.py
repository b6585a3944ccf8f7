"""Follows a run's events, live, until the segment or the run ends."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from unpause.clock import delays
from unpause.domain.events import Event, EventType
from unpause.domain.runs import RunStatus
from unpause.errors import DatabaseUnavailable, ShuttingDown
from unpause.store.events import list_events
from unpause.store.run_queue import last_sequences

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence

    from unpause.domain.runs import Run, RunView
    from unpause.store.engine.database import Connection, Database
    from unpause.streaming.bus import Bus, Subscription

_PAGE = 500
_FIRST_RETRY_SECONDS = 0.1
_LAST_RETRY_SECONDS = 1.0


class Begun(NamedTuple):
    """A segment that began in this process: the ``events`` with which it did, and the bus's ``position`` before it.

    Nobody else appends to the run while it lasts, and what this process appends is announced: so who knows these events
    need not read the log.
    """

    events: tuple[Event, ...]
    position: int


class Follower:
    """Follows runs: history from the log, then batches from the bus, each event once and in order."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        self._streams: set[Subscription] = set()
        self._are_ended = False

    def end_streams(self) -> None:
        """End all streams, and those that begin later, so that clients reconnect elsewhere."""
        self._are_ended = True
        for subscription in self._streams:
            subscription.end()

    @property
    def are_streams_ended(self) -> bool:
        """Whether streams end before their runs do."""
        return self._are_ended

    async def attach(self, run: Run, after: int, *, through_pauses: bool = False) -> AsyncIterator[Event]:
        """Yield the events numbered after ``after``, those of earlier segments too, until the run settles.

        ``run`` is the run as just read: if it is settled, its log ends there; otherwise the present segment is
        followed to its end. With ``through_pauses`` so are the segments after it, until the run ends.
        """
        last = after
        while last < run.last_sequence:
            page = await self._read(run.id, last) or []
            for event in page:
                if event.sequence <= run.last_sequence:
                    yield event
            last = page[-1].sequence if page else run.last_sequence
        # Not after a larger ``after``: no client has seen what is not in the log, and would miss the end.
        last = run.last_sequence
        goes_on = through_pauses if run.status is RunStatus.PAUSED else not run.status.is_final
        while goes_on:
            goes_on = False
            async for event in self.follow_run(run.id, last):
                yield event
                last = event.sequence
                goes_on = through_pauses and event.type is EventType.RUN_PAUSED

    async def wait_for_run(self, run_key: int, after: int, begun: Begun | None = None) -> RunView | None:
        """Wait until the segment that follows event number ``after`` has ended, or the run is deleted.

        Returns the run as the segment left it, where that is known here without reading it. Raises ShuttingDown where
        streams end first.
        """
        with self._subscribed(run_key, is_live=False) as subscription:
            async for event in self._follow(subscription, run_key, after, begun):
                if event.type.ends_segment:
                    view = subscription.end_view
                    return view if view is not None and view.run.last_sequence == event.sequence else None
        if self._are_ended:
            raise ShuttingDown
        return None

    async def follow_run(self, run_key: int, after: int, begun: Begun | None = None) -> AsyncGenerator[Event]:
        """Yield the events numbered after ``after``, up to and with the one that ends the segment.

        Ends early where streams end or the run is deleted.
        """
        with self._subscribed(run_key) as subscription:
            async for event in self._follow(subscription, run_key, after, begun):
                yield event

    @contextmanager
    def _subscribed(self, run_key: int, *, is_live: bool = True) -> Iterator[Subscription]:
        with self._bus.subscribed(run_key, is_live=is_live) as subscription:
            self._streams.add(subscription)
            if self._are_ended:
                subscription.end()
            try:
                yield subscription
            finally:
                self._streams.discard(subscription)

    async def _follow(
        self, subscription: Subscription, run_key: int, after: int, begun: Begun | None
    ) -> AsyncGenerator[Event]:
        last = after
        batch: Sequence[Event] | None
        if begun is not None and not self._bus.has_published(run_key, begun.position):
            batch = begun.events
        else:
            batch = await self._read(run_key, last)
        # Whether the log may have more: after a full page, a gap, a dropped batch or a silent poll interval.
        look_again = batch is not None and len(batch) == _PAGE
        while batch is not None:
            for event in batch:
                if event.sequence <= last:
                    continue
                if event.sequence > last + 1:
                    look_again = True
                    break
                last = event.sequence
                yield event
                if event.type.ends_segment:
                    return
            if subscription.is_ended:
                return
            if not look_again:
                batch = await subscription.next_batch(self._bus.poll_seconds)
                look_again = not batch
            if look_again:
                batch = await self._read(run_key, last)
                look_again = batch is not None and len(batch) == _PAGE

    async def _read(self, run_key: int, after: int) -> list[Event] | None:
        """Return a page of the log; None where the run was deleted."""

        def unit(connection: Connection) -> list[Event] | None:
            found = list_events(connection, run_key, after, _PAGE)
            return found if found or last_sequences(connection, (run_key,)) else None

        # While the database is unavailable nothing can be missed: wait for it.
        waits = delays(_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS)
        while True:
            try:
                return await self._database.read(unit)
            except DatabaseUnavailable:
                if self._are_ended:
                    raise
                await asyncio.sleep(next(waits))
