"""Whatever of PostgreSQL's notifications gets lost, and whatever fails on the way: followers get every event once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import pytest

from tests.streaming.buses import DEADLINE, DELTA, END, POLL_SECONDS, node, nodes
from tests.support.databases import PostgresServer
from tests.support.outages import away, cut_listeners
from tests.support.reaching import until
from unpause.domain.events import Event
from unpause.store.engine.notifications import notify
from unpause.streaming.bus import Bus, Signal


@contextmanager
def deaf(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lose all notifications to the bus during the block."""
    with monkeypatch.context() as patch:
        patch.setattr(bus, "_receive", len)
        yield


async def test_lost_notifications_cost_one_poll_interval(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with nodes(postgres_url, poll_seconds=POLL_SECONDS) as (here, there):
        run = await here.has_run()
        following = there.follow(run)
        with deaf(there.bus, monkeypatch):
            await here.append(run, DELTA)
            await following.has_seen(1)
            await here.append(run, DELTA, DELTA)
            await following.has_seen(3)
            # Written and never announced at all: its process was killed between the two.
            await here.commit(run, DELTA, END)
            assert await following.ends() == [1, 2, 3, 4, 5]


async def test_without_a_poll_what_was_lost_comes_with_the_next_notification(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nodes(postgres_url) as (here, there):
        run = await here.has_run()
        following = there.follow(run)
        await here.append(run, DELTA)
        await following.has_seen(1)
        with deaf(there.bus, monkeypatch):
            await here.append(run, DELTA, DELTA)
            # Whoever hears this heard, or would have, what was said before.
            async with node(postgres_url) as yonder:
                yonder.bus.signal(Signal.READY, 1)
                await here.hears(Signal.READY, 1)
        await here.append(run, END)
        assert await following.ends() == [1, 2, 3, 4]


async def test_a_listener_that_is_cut_off_connects_again_and_looks_at_everything_once(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with nodes(postgres_url) as (here, there):
        run = await here.has_run()
        following = there.follow(run)
        await here.append(run, DELTA)
        await following.has_seen(1)
        for number in range(3):
            here.received.clear()
            there.received.clear()
            # Nobody is told of these, and there is no poll. Before the cut: who is cut off may be there again at once.
            await here.commit(run, DELTA)
            assert await asyncio.to_thread(cut_listeners, postgres, postgres_url) == 2
            await there.hears(Signal.READY, None)
            await following.has_seen(2 + number)
            await here.hears(Signal.READY, None)
        here.bus.signal(Signal.PAUSE, 4711)
        await there.hears(Signal.PAUSE, 4711)
        await here.append(run, END)
        assert await following.ends() == [1, 2, 3, 4, 5]


async def test_a_bus_knows_whether_notifications_arrive(
    postgres: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they do, workers poll seldom."""
    monkeypatch.setattr("unpause.store.engine.notifications._SILENCE_SECONDS", 0.2)
    async with node(postgres_url) as here:
        for _ in range(2):
            await until(lambda: here.bus.is_notified)
            with away(postgres, postgres_url):
                await until(lambda: not here.bus.is_notified)


async def test_after_the_database_was_away_all_goes_on(postgres: PostgresServer, postgres_url: str) -> None:
    async with nodes(postgres_url, poll_seconds=POLL_SECONDS) as (here, there):
        run = await here.has_run()
        following = there.follow(run)
        await here.append(run, DELTA)
        await following.has_seen(1)
        there.received.clear()
        with away(postgres, postgres_url):
            # Said to nobody: the database that would carry it is away.
            here.bus.signal(Signal.READY, 1)
            there.bus.publish(run, ())
            await asyncio.sleep(3 * POLL_SECONDS)
        await there.hears(Signal.READY, None)
        here.bus.signal(Signal.CANCELLED, 2)
        await there.hears(Signal.CANCELLED, 2)
        await here.append(run, DELTA)
        await here.append(run, END)
        assert await following.ends() == [1, 2, 3]


async def test_words_that_make_no_sense_do_not_make_a_bus_deaf(postgres_url: str) -> None:
    async with nodes(postgres_url) as (here, there):
        there.received.clear()
        await here.database.write(partial(notify, payload="no JSON"))
        # It listens anew, and looks at everything.
        await there.hears(Signal.READY, None)
        here.bus.signal(Signal.READY, 4711)
        await there.hears(Signal.READY, 4711)


@pytest.mark.parametrize("task", ["read", "execute"])
async def test_trouble_of_any_kind_does_not_end_the_tasks_of_a_bus(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    class Failing:
        def __getattr__(self, name: str) -> object:
            if name == task:
                failed.set()
            raise LookupError

    failed = asyncio.Event()
    async with nodes(postgres_url, poll_seconds=POLL_SECONDS) as (here, there):
        run = await here.has_run()
        following = there.follow(run)
        await here.append(run, DELTA)
        await following.has_seen(1)
        with monkeypatch.context() as patch:
            patch.setattr(there.bus, "_database", Failing())
            there.bus.signal(Signal.PAUSE, 1)
            await here.append(run, DELTA)
            async with asyncio.timeout(DEADLINE):
                await failed.wait()
        there.bus.signal(Signal.CANCELLED, 2)
        await here.hears(Signal.CANCELLED, 2)
        await here.append(run, END)
        assert await following.ends() == [1, 2, 3]


async def test_a_follower_that_nobody_reads_keeps_little_and_misses_nothing(database_url: str) -> None:
    async with node(database_url) as here:
        run = await here.has_run()
        stream = here.follower.follow_run(run, 0)
        await here.append(run, DELTA)
        seen = [(await anext(stream)).sequence]
        for events in batches(await here.commit(run, *[DELTA] * 1200)):
            here.bus.publish(run, events)
        await here.append(run, END)
        async with asyncio.timeout(DEADLINE):
            seen += [event.sequence async for event in stream]
        assert seen == list(range(1, 1203))


def batches(events: Sequence[Event]) -> list[tuple[Event, ...]]:
    return [(event,) for event in events]
