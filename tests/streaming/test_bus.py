"""Both buses hand committed events to who follows; that of PostgreSQL also across processes.

A second process is played by a second bus and database of its own: they share nothing but the PostgreSQL server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from pydantic_core import from_json
from sqlalchemy import delete

from tests.streaming.buses import DEADLINE, DELTA, END, POLL_SECONDS, node, nodes
from tests.support.reaching import until
from unpause.execution.outside_changes import OutsideChanges
from unpause.store.engine.database import parse_url
from unpause.store.engine.notifications import LONGEST_PAYLOAD, listen
from unpause.store.tables import runs
from unpause.streaming.bus import InProcessBus, Signal
from unpause.streaming.postgres import PostgresBus

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
            batch = await subscription.next_batch(DEADLINE)
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
    async with node(database_url, POLL_SECONDS) as here:
        run = await here.has_run()
        with here.bus.subscribed(run):
            await here.append(run, DELTA)
        assert isinstance(here.bus, InProcessBus)
        assert not here.bus._subscriptions  # noqa: SLF001 - memory that only grows shows nowhere else
        if isinstance(here.bus, PostgresBus):
            async with asyncio.timeout(DEADLINE):
                while here.bus._handed_over:  # noqa: ASYNC110, SLF001 - the same; the bus tells nobody
                    await asyncio.sleep(0.01)


@pytest.mark.sql
@pytest.mark.parametrize("change", ["ended", "deleted"])
async def test_a_follower_learns_what_another_process_did_to_its_run_without_a_word(
    database_url: str, change: str
) -> None:
    """On SQLite that is a command beside the server, such as `unpause users erase --cancel`."""
    async with node(database_url, POLL_SECONDS) as here:
        run = await here.has_run()
        await here.append(run, DELTA)
        following = here.follow(run)
        await following.has_seen(1)
        sweep = OutsideChanges(here.database, here.bus)
        assert await sweep.sweep() == 1, "it may have changed before"
        assert await sweep.sweep() == 0
        if change == "ended":
            await here.commit(run, END)
        else:
            await here.database.write(lambda connection: connection.execute(delete(runs).where(runs.c.id == run)))
        if not here.database.is_shared:
            assert await sweep.sweep() == 1
        assert await following.ends() == ([1, 2] if change == "ended" else [1])


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


async def test_a_process_that_is_alone_keeps_what_it_announces_for_the_next_one(postgres_url: str) -> None:
    async with node(postgres_url) as here:
        await until(lambda: here.bus.is_notified)
        sent = listen(parse_url(postgres_url))
        assert await anext(sent) is None
        for key in range(10_000):
            here.bus.signal(Signal.READY, key)
        async with node(postgres_url) as there:
            assert "ready" not in await announcement(sent), "the other's, that it listens"
            await there.hears(Signal.READY, 9_999)
            assert (Signal.READY, 1) not in there.received, "only the newest are kept"
            here.bus.signal(Signal.READY, 4711)
            await there.hears(Signal.READY, 4711)
            there.bus.signal(Signal.READY, 4712)
            await here.hears(Signal.READY, 4712)
        await sent.aclose()


async def test_a_process_of_an_older_release_that_listens_and_says_nothing_is_told(postgres_url: str) -> None:
    old = listen(parse_url(postgres_url))
    assert await anext(old) is None
    async with node(postgres_url) as here:
        await until(lambda: here.bus.is_notified)
        for key in (4711, 4712):
            here.bus.signal(Signal.READY, key)
            async with asyncio.timeout(DEADLINE):
                while key not in (await announcement(old)).get("ready", ()):
                    pass
    await old.aclose()


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
            # Not that by which a node finds out whether it hears itself.
            if "ready" in from_json(payload):
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
    while "grown" not in (announced := await announcement(sent)):
        # By which nodes find out whether they hear themselves, and one another.
        assert "probe" in announced
    found: list[int] = announced["grown"]
    return found


async def announcement(sent: AsyncIterator[str | None]) -> dict[str, list[int]]:
    """Return the next notification."""
    received = await anext(sent)
    assert received is not None
    announced: dict[str, list[int]] = from_json(received)
    return announced


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
