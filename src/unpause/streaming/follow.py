"""Reads a run's events from a number on, live, until the segment or the run ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.store.events import list_events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from unpause.domain.events import Event
    from unpause.store.database import Connection, Database
    from unpause.streaming.bus import Bus

_PAGE = 500


class Follower:
    """Follows runs: history from the log, news from the bus, each event once and in order."""

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus

    async def follow_run(self, run_key: int, after: int) -> AsyncIterator[Event]:
        """Yield the events numbered after ``after``, up to and with the one that ends the segment."""
        with self._bus.subscribed(run_key) as subscription:
            last = after
            batch: Sequence[Event] = await self._read(run_key, last)
            # Whether the log may hold more than the batch: a full page, a gap, lost news, or a poll interval's silence.
            look_again = len(batch) == _PAGE
            while True:
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
                if not look_again:
                    batch = await subscription.next_batch(self._bus.poll_seconds)
                    look_again = not batch
                if look_again:
                    batch = await self._read(run_key, last)
                    look_again = len(batch) == _PAGE

    async def _read(self, run_key: int, after: int) -> list[Event]:
        def unit(connection: Connection) -> list[Event]:
            return list_events(connection, run_key, after, _PAGE)

        return await self._database.read(unit)
