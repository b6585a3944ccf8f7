"""Following a run: history, then news; each event once, in order, up to the end of the segment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import pytest
from sqlalchemy import Connection, delete

from tests.support.databases import NOW, new_run
from unpause.domain.events import Event, EventType
from unpause.domain.runs import RunStatus, RunView
from unpause.errors import ShuttingDown
from unpause.store.engine.database import Database
from unpause.store.events import add_events
from unpause.store.runs import reserve_sequence
from unpause.store.tables import runs
from unpause.streaming.bus import Bus, InProcessBus, Subscription
from unpause.streaming.follow import Follower
from unpause.streaming.postgres import PostgresBus

# Longer than anything here takes: a follower that misses the end would otherwise wait for ever.
_DEADLINE = 60
# No poll comes to the rescue.
_NEVER = 3600.0


@dataclass
class Log:
    """A run with a log that tests write to, and followers of it."""

    database: Database
    bus: Bus
    run_key: int
    follower: Follower = field(init=False)

    def __post_init__(self) -> None:
        self.follower = Follower(self.database, self.bus)

    async def commit(self, *types: EventType) -> tuple[Event, ...]:
        """Write the events without telling anybody."""

        def unit(connection: Connection) -> tuple[Event, ...]:
            last = reserve_sequence(connection, self.run_key, 0, len(types), NOW).last
            return add_events(connection, self.run_key, [Event(kind, NOW) for kind in types], last)

        return await self.database.append(unit)

    async def append(self, *types: EventType) -> None:
        """Write the events and announce them, as the recorder does."""
        self.bus.publish(self.run_key, await self.commit(*types))

    async def append_each(self, count: int) -> None:
        """Write so many events, and announce each for itself."""
        for event in await self.commit(*[DELTA] * count):
            self.bus.publish(self.run_key, (event,))

    def following(self, after: int = 0) -> AbstractAsyncContextManager[AsyncGenerator[Event]]:
        """Return the events of the run, given up at the end of the block."""
        return aclosing(self.follower.follow_run(self.run_key, after))

    async def follow(self, after: int = 0) -> list[int]:
        """Follow to the end and return the numbers of the events seen."""
        async with asyncio.timeout(_DEADLINE):
            return [event.sequence async for event in self.follower.follow_run(self.run_key, after)]


@asynccontextmanager
async def logging(url: str, bus: Bus | None = None) -> AsyncIterator[Log]:
    async with Database(url).opened() as database:
        bus = bus or (PostgresBus(database, database.url, _NEVER) if database.is_shared else InProcessBus())
        run = await database.write(lambda connection: new_run(connection, RunStatus.RUNNING))
        async with bus.running():
            yield Log(database, bus, run.id)


DELTA = EventType.CONTENT_DELTA
END = EventType.RUN_COMPLETED


async def test_history_comes_first_and_then_what_is_new(database_url: str) -> None:
    async with logging(database_url) as log:
        await log.append(*[DELTA] * 5)
        async with log.following() as events:
            seen = [(await anext(events)).sequence for _ in range(5)]
            for _ in range(10):
                await log.append(DELTA, DELTA)
            await log.append(END)
            seen += [event.sequence async for event in events]
    assert seen == list(range(1, 27))


async def test_each_event_comes_once_and_in_order_while_many_publish(database_url: str) -> None:
    async with logging(database_url) as log:
        await log.append(*[DELTA] * 3)
        following = [asyncio.create_task(log.follow(after)) for after in (0, 2, 3, 0)]

        async def write() -> None:
            for size in (1, 2, 3, 4) * 5:
                await log.append(*[DELTA] * size)

        await asyncio.gather(*(write() for _ in range(8)))
        await log.append(END)
        seen = await asyncio.gather(*following)
    total = 3 + 8 * 50 + 1
    assert seen == [list(range(after + 1, total + 1)) for after in (0, 2, 3, 0)]


async def test_batches_announced_out_of_order_come_in_order(database_url: str) -> None:
    async with logging(database_url) as log, log.following() as events:
        await log.append(DELTA)
        seen = [(await anext(events)).sequence]
        first, second, third = [await log.commit(DELTA, DELTA) for _ in range(3)]
        for batch in (second, third, first, second):
            log.bus.publish(log.run_key, batch)
        await log.append(END)
        seen += [event.sequence async for event in events]
    assert seen == list(range(1, 9))


async def test_a_batch_that_overlaps_what_was_read_is_not_repeated(database_url: str) -> None:
    async with logging(database_url) as log:
        batch = await log.commit(DELTA, DELTA)
        async with log.following() as events:
            seen = [(await anext(events)).sequence]
            log.bus.publish(log.run_key, batch)
            await log.append(DELTA, END)
            seen += [event.sequence async for event in events]
    assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize("batches", [511, 512, 513, 1300])
async def test_a_slow_follower_misses_nothing_even_the_end(database_url: str, batches: int) -> None:
    async with logging(database_url) as log, log.following() as events, asyncio.timeout(_DEADLINE):
        await log.append(DELTA)
        seen = [(await anext(events)).sequence]
        # From here on nobody reads: more is announced than a subscription keeps, the end last of all.
        await log.append_each(batches)
        await log.append(END)
        seen += [event.sequence async for event in events]
    assert seen == list(range(1, batches + 3))


async def test_a_slow_follower_that_caught_up_goes_on_live(database_url: str) -> None:
    async with logging(database_url) as log, log.following() as events, asyncio.timeout(_DEADLINE):
        await log.append(DELTA)
        seen = [(await anext(events)).sequence]
        await log.append_each(700)
        seen += [(await anext(events)).sequence for _ in range(700)]
        nothing_yet = asyncio.ensure_future(anext(events))
        await log.append(END)
        seen.append((await nothing_yet).sequence)
    assert seen == list(range(1, 703))


@pytest.mark.parametrize("length", [499, 500, 501, 1000, 1750])
async def test_a_long_history_comes_whole_though_nothing_new_is_announced(database_url: str, length: int) -> None:
    async with logging(database_url) as log:
        await log.append(*[DELTA] * (length - 1), END)
        assert await log.follow() == list(range(1, length + 1))


@pytest.mark.parametrize("end", [kind for kind in EventType if kind.ends_segment])
async def test_following_stops_at_the_end_of_the_segment_and_goes_on_from_there(
    database_url: str, end: EventType
) -> None:
    async with logging(database_url) as log:
        await log.append(DELTA, end, DELTA, DELTA, END)
        assert await log.follow() == [1, 2]
        assert await log.follow(after=2) == [3, 4, 5]
        assert await log.follow(after=4) == [5]


async def test_after_the_end_a_follower_waits_for_the_next_segment(database_url: str) -> None:
    async with logging(database_url) as log:
        await log.append(DELTA, EventType.RUN_PAUSED)
        following = asyncio.create_task(log.follow(after=2))
        await log.append(EventType.RUN_CONTINUED)
        await log.append(END)
        assert await following == [3, 4]


async def test_two_hundred_followers_all_see_everything(database_url: str) -> None:
    async with logging(database_url) as log:
        await log.append(*[DELTA] * 10)
        following = [asyncio.create_task(log.follow(after=number % 20)) for number in range(200)]
        for _ in range(10):
            await asyncio.gather(*(log.append(DELTA) for _ in range(10)))
        await log.append(END)
        seen = await asyncio.gather(*following)
    assert seen == [list(range(number % 20 + 1, 112)) for number in range(200)]


class CountingBus(InProcessBus):
    """Knows how many subscriptions are open."""

    def __init__(self) -> None:
        super().__init__()
        self.open = 0
        self.somebody = asyncio.Event()

    @contextmanager
    def subscribed(self, run_key: int, *, is_live: bool = True) -> Iterator[Subscription]:
        with super().subscribed(run_key, is_live=is_live) as subscription:
            self.open += 1
            self.somebody.set()
            try:
                yield subscription
            finally:
                self.open -= 1


async def test_who_stops_following_is_forgotten(database_url: str) -> None:
    bus = CountingBus()
    async with logging(database_url, bus) as log:
        await log.append(DELTA)
        async with log.following() as events:
            await anext(events)
            assert bus.open == 1
        assert bus.open == 0
        bus.somebody.clear()
        following = asyncio.create_task(log.follow(after=1))
        await bus.somebody.wait()
        following.cancel()
        with pytest.raises(asyncio.CancelledError):
            await following
        assert bus.open == 0
        await log.append(END)
        assert await log.follow() == [1, 2]
        assert bus.open == 0


class SilentBus(InProcessBus):
    """Loses every announcement, as a network may; followers look by themselves from time to time."""

    poll_seconds: float | None = 0.001

    def publish(self, run_key: int, events: Sequence[Event], end_view: RunView | None = None) -> None:
        """Lose it."""


async def test_where_announcements_are_lost_a_follower_looks_by_itself(database_url: str) -> None:
    async with logging(database_url, SilentBus()) as log:
        following = asyncio.create_task(log.follow())
        for _ in range(5):
            await log.append(DELTA, DELTA)
        await log.append(END)
        assert await following == list(range(1, 12))


async def test_events_of_other_runs_are_not_seen(database_url: str) -> None:
    async with logging(database_url) as log:
        other = await log.database.write(lambda connection: new_run(connection, RunStatus.RUNNING))
        stranger = Log(log.database, log.bus, other.id)
        following = asyncio.gather(log.follow(), stranger.follow())
        for each in (log, stranger, stranger, log):
            await each.append(DELTA)
        await stranger.append(END)
        await log.append(DELTA, END)
        assert list(await following) == [[1, 2, 3, 4], [1, 2, 3]]


async def test_a_closed_database_is_said_to_be_shutting_down(database_url: str) -> None:
    async with logging(database_url) as log:
        await log.append(DELTA)
    with pytest.raises(ShuttingDown):
        await log.follow()


async def test_a_run_that_was_deleted_is_followed_to_nowhere_and_not_for_ever(database_url: str) -> None:
    async with logging(database_url) as log:
        await log.append(DELTA)
        await log.database.write(lambda connection: connection.execute(delete(runs).where(runs.c.id == log.run_key)))
        assert await log.follow() == []
        assert await log.follow(1) == []
        async with asyncio.timeout(_DEADLINE):
            await log.follower.wait_for_run(log.run_key, 1)
