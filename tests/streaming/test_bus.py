"""Both buses hand committed events to who follows; that of PostgreSQL also across processes, whatever gets lost.

A second process is played by a second bus and database of its own: they share nothing but the PostgreSQL server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
from pydantic_core import from_json
from sqlalchemy import Connection

from tests.support.databases import NOW, PostgresServer, new_run
from tests.support.outages import away, cut_listeners
from unpause.domain.events import Event, EventType
from unpause.domain.runs import RunStatus
from unpause.store.engine.database import Database, parse_url
from unpause.store.engine.notifications import LONGEST_PAYLOAD, listen, notify
from unpause.store.events import add_events
from unpause.store.runs import reserve_sequence
from unpause.streaming.bus import Bus, InProcessBus, Signal
from unpause.streaming.follow import Follower
from unpause.streaming.postgres import PostgresBus

_DEADLINE = 60
_POLL_SECONDS = 0.1
# No poll comes to the rescue.
_NEVER = 3600.0

DELTA, END = EventType.CONTENT_DELTA, EventType.RUN_COMPLETED


@dataclass
class Node:
    """What one process has: a database, a bus, a follower; and what its bus told it."""

    database: Database
    bus: Bus
    received: list[tuple[Signal, int | None]] = field(default_factory=list)
    reported: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.follower = Follower(self.database, self.bus)
        self.bus.on_signal(self._on_signal)

    def _on_signal(self, signal: Signal, run_key: int | None) -> None:
        self.received.append((signal, run_key))
        self.reported.set()

    async def hears(self, signal: Signal, run_key: int | None) -> None:
        """Wait for the signal."""
        async with asyncio.timeout(_DEADLINE):
            while (signal, run_key) not in self.received:
                self.reported.clear()
                await self.reported.wait()

    async def has_run(self) -> int:
        """Add a run that somebody executes, and return its key."""
        return await self.database.write(lambda connection: new_run(connection, RunStatus.RUNNING).id)

    async def commit(self, run_key: int, *types: EventType) -> tuple[Event, ...]:
        """Write events and tell nobody."""

        def unit(connection: Connection) -> tuple[Event, ...]:
            last = reserve_sequence(connection, run_key, 0, len(types), NOW).last
            return add_events(connection, run_key, [Event(kind, NOW) for kind in types], last)

        return await self.database.append(unit)

    async def append(self, run_key: int, *types: EventType) -> None:
        """Write events and announce them, as the recorder does."""
        self.bus.publish(run_key, await self.commit(run_key, *types))

    def follow(self, run_key: int, after: int = 0) -> Following:
        """Follow the run in the background."""
        return Following(self.follower, run_key, after)


class Following:
    """A follower at work: what it has seen so far, and how to wait for more."""

    def __init__(self, follower: Follower, run_key: int, after: int) -> None:
        self.seen: list[int] = []
        self._grown = asyncio.Event()
        self._task = asyncio.create_task(self._follow(follower, run_key, after))

    async def _follow(self, follower: Follower, run_key: int, after: int) -> None:
        async for event in follower.follow_run(run_key, after):
            self.seen.append(event.sequence)
            self._grown.set()

    async def has_seen(self, sequence: int) -> None:
        """Wait until the follower has come so far."""
        async with asyncio.timeout(_DEADLINE):
            while sequence not in self.seen:
                self._grown.clear()
                await self._grown.wait()

    async def ends(self) -> list[int]:
        """Wait until the run has ended; return the numbers of all events seen."""
        async with asyncio.timeout(_DEADLINE):
            await self._task
        return self.seen


@asynccontextmanager
async def node(url: str, poll_seconds: float = _NEVER) -> AsyncIterator[Node]:
    """Run a bus on the database for the length of the block, which begins once it listens."""
    async with Database(url).opened() as database:
        bus: Bus = PostgresBus(database, parse_url(url), poll_seconds) if database.is_shared else InProcessBus()
        made = Node(database, bus)
        async with bus.running():
            if isinstance(bus, PostgresBus):
                # It cannot know what was said before, and says so.
                await made.hears(Signal.READY, None)
            yield made


@asynccontextmanager
async def nodes(url: str, count: int = 2, poll_seconds: float = _NEVER) -> AsyncIterator[list[Node]]:
    """Run several."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(node(url, poll_seconds)) for _ in range(count)]


@contextmanager
def deaf(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lose all notifications to the bus during the block."""
    with monkeypatch.context() as patch:
        patch.setattr(bus, "_receive", len)
        yield


# -------------------------------------------------------------------------------- both buses, one process


async def test_followers_of_a_run_get_its_events_once_and_in_order(database_url: str) -> None:
    async with node(database_url) as here:
        run = await here.has_run()
        following = [here.follow(run) for _ in range(3)]
        for _ in range(20):
            await here.append(run, DELTA, DELTA)
        await here.append(run, END)
        assert [await each.ends() for each in following] == [list(range(1, 42))] * 3


async def test_a_follower_that_joins_late_gets_what_was_before_it_and_what_comes(database_url: str) -> None:
    async with node(database_url) as here:
        run = await here.has_run()
        first = here.follow(run)
        await here.append(run, *[DELTA] * 5)
        await first.has_seen(5)
        late, later = here.follow(run), here.follow(run, after=3)
        await late.has_seen(5)
        await here.append(run, DELTA)
        await here.append(run, END)
        assert await first.ends() == await late.ends() == list(range(1, 8))
        assert await later.ends() == list(range(4, 8))


async def test_events_of_other_runs_are_not_handed_over(database_url: str) -> None:
    async with node(database_url) as here:
        one, other = await here.has_run(), await here.has_run()
        with here.bus.subscribed(one) as subscription:
            await here.append(other, DELTA)
            await here.append(one, DELTA, DELTA)
            batch = await subscription.next_batch(_DEADLINE)
        assert [event.sequence for event in batch] == [1, 2]


async def test_nothing_is_announced_where_nothing_happened(database_url: str) -> None:
    async with node(database_url) as here:
        run = await here.has_run()
        with here.bus.subscribed(run) as subscription:
            here.bus.publish(run, ())
            assert await subscription.next_batch(0.01) == ()


async def test_a_bus_does_not_tell_its_own_process_what_that_said(database_url: str) -> None:
    async with node(database_url) as here:
        before = list(here.received)
        here.bus.signal(Signal.CANCELLED, 1)
        run = await here.has_run()
        following = here.follow(run)
        await here.append(run, END)
        await following.ends()
        assert here.received == before


async def test_who_stops_following_is_forgotten(database_url: str) -> None:
    async with node(database_url, _POLL_SECONDS) as here:
        run = await here.has_run()
        with here.bus.subscribed(run):
            await here.append(run, DELTA)
        assert isinstance(here.bus, InProcessBus)
        assert not here.bus._subscriptions  # noqa: SLF001 - memory that only grows shows nowhere else
        if isinstance(here.bus, PostgresBus):
            async with asyncio.timeout(_DEADLINE):
                while here.bus._seen:  # noqa: ASYNC110, SLF001 - the same; the bus tells nobody
                    await asyncio.sleep(0.01)


# -------------------------------------------------------------------------------- between processes


async def test_events_of_another_process_reach_followers_once_and_in_order(postgres_url: str) -> None:
    async with nodes(postgres_url, 3) as (here, there, yonder):
        run = await here.has_run()
        following = [each.follow(run) for each in (here, there, there, yonder)]
        for _ in range(30):
            await here.append(run, DELTA)
        await here.append(run, DELTA, END)
        assert [await each.ends() for each in following] == [list(range(1, 33))] * 4


async def test_a_run_that_moves_from_process_to_process_is_seen_whole_everywhere(postgres_url: str) -> None:
    async with nodes(postgres_url) as (here, there):
        run = await here.has_run()
        following = [each.follow(run) for each in (here, there)]
        for number in range(20):
            await (here if number % 3 else there).append(run, DELTA)
        await there.append(run, END)
        assert [await each.ends() for each in following] == [list(range(1, 22))] * 2


async def test_many_runs_at_once_all_arrive(postgres_url: str) -> None:
    async with nodes(postgres_url) as (here, there):
        runs = [await here.has_run() for _ in range(40)]
        following = [there.follow(run) for run in runs]

        async def write(run: int) -> None:
            for _ in range(5):
                await here.append(run, DELTA)
            await here.append(run, END)

        await asyncio.gather(*(write(run) for run in runs))
        assert [await each.ends() for each in following] == [list(range(1, 7))] * len(runs)


async def test_more_events_than_one_look_into_the_log_takes_arrive(postgres_url: str) -> None:
    async with nodes(postgres_url) as (here, there):
        run = await here.has_run()
        following = there.follow(run)
        await here.append(run, DELTA)
        await following.has_seen(1)
        await here.append(run, *[DELTA] * 1500)
        await here.append(run, END)
        assert await following.ends() == list(range(1, 1503))


async def test_a_late_follower_of_a_run_executed_elsewhere_misses_and_repeats_nothing(postgres_url: str) -> None:
    async with nodes(postgres_url) as (here, there):
        run = await here.has_run()
        first = there.follow(run)
        await here.append(run, DELTA, DELTA)
        await first.has_seen(2)
        late = there.follow(run, after=1)
        await here.append(run, DELTA)
        await late.has_seen(3)
        await here.append(run, END)
        assert await first.ends() == [1, 2, 3, 4]
        assert await late.ends() == [2, 3, 4]


@pytest.mark.parametrize("signal", list(Signal))
async def test_signals_are_heard_by_all_other_processes(postgres_url: str, signal: Signal) -> None:
    async with nodes(postgres_url, 3) as (here, *others):
        here.bus.signal(signal, 4711)
        for other in others:
            await other.hears(signal, 4711)
        assert (signal, 4711) not in here.received


async def test_what_is_said_just_before_the_end_is_said(postgres_url: str) -> None:
    async with node(postgres_url) as there:
        async with node(postgres_url) as here:
            here.bus.signal(Signal.READY, 4711)
        await there.hears(Signal.READY, 4711)


async def test_what_comes_together_is_said_together_and_nothing_longer_than_is_allowed(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nodes(postgres_url) as (here, there):
        payloads: list[str] = []
        receive = partial(there.bus._receive)  # type: ignore[attr-defined]  # noqa: SLF001 - the payloads are the point

        def note(payload: str) -> None:
            payloads.append(payload)
            receive(payload)

        monkeypatch.setattr(there.bus, "_receive", note)
        # The largest keys there are.
        keys = [2**63 - 1 - number for number in range(2000)]
        for key in keys:
            here.bus.signal(Signal.READY, key)
        for key in keys:
            await there.hears(Signal.READY, key)
    assert max(len(payload.encode()) for payload in payloads) <= LONGEST_PAYLOAD
    assert len(payloads) <= 8
    assert sorted(key for payload in payloads for key in from_json(payload)["ready"]) == sorted(keys)


async def grown(sent: AsyncIterator[str | None]) -> list[int]:
    """Return the runs that the next notification says have grown."""
    received = await anext(sent)
    assert received is not None
    found: list[int] = from_json(received)["grown"]
    return found


async def test_a_process_says_how_far_runs_have_grown_once_for_many_events(postgres_url: str) -> None:
    async with node(postgres_url) as here, node(postgres_url) as there:
        run = await here.has_run()
        following = there.follow(run)
        events = await here.commit(run, *[DELTA] * 50)
        sent = listen(parse_url(postgres_url))
        assert await anext(sent) is None
        for event in events:
            here.bus.publish(run, (event,))
        assert await grown(sent) == [run]
        await here.append(run, END)
        assert await following.ends() == list(range(1, 52))
        # The fifty went with one, the end with another.
        assert await grown(sent) == [run]
        await sent.aclose()


# -------------------------------------------------------------------------------- what gets lost


async def test_lost_notifications_cost_one_poll_interval(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with nodes(postgres_url, poll_seconds=_POLL_SECONDS) as (here, there):
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


async def test_after_the_database_was_away_all_goes_on(postgres: PostgresServer, postgres_url: str) -> None:
    async with nodes(postgres_url, poll_seconds=_POLL_SECONDS) as (here, there):
        run = await here.has_run()
        following = there.follow(run)
        await here.append(run, DELTA)
        await following.has_seen(1)
        there.received.clear()
        with away(postgres, postgres_url):
            # Said to nobody: the database that would carry it is away.
            here.bus.signal(Signal.READY, 1)
            there.bus.publish(run, ())
            await asyncio.sleep(3 * _POLL_SECONDS)
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
    async with nodes(postgres_url, poll_seconds=_POLL_SECONDS) as (here, there):
        run = await here.has_run()
        following = there.follow(run)
        await here.append(run, DELTA)
        await following.has_seen(1)
        with monkeypatch.context() as patch:
            patch.setattr(there.bus, "_database", Failing())
            there.bus.signal(Signal.PAUSE, 1)
            await here.append(run, DELTA)
            async with asyncio.timeout(_DEADLINE):
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
        async with asyncio.timeout(_DEADLINE):
            seen += [event.sequence async for event in stream]
        assert seen == list(range(1, 1203))


def batches(events: Sequence[Event]) -> list[tuple[Event, ...]]:
    return [(event,) for event in events]
