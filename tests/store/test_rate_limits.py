"""Counting requests in windows: in memory, and in a PostgreSQL that several processes share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text

from tests.support.databases import MIGRATED, NOW, PostgresServer
from tests.support.server import SettableClock
from unpause.errors import DatabaseUnavailable, ShuttingDown
from unpause.store.engine.database import Connection, Database
from unpause.store.engine.schema import plain_engine
from unpause.store.rate_limits import LocalRateCounts, RateCounts, SharedRateCounts, add_count, forget_counts
from unpause.store.tables import rate_counts

MINUTE = timedelta(minutes=1)


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(NOW)


@pytest.fixture
def shared_url(postgres: PostgresServer, clock: SettableClock) -> Iterator[str]:
    with postgres.migrated_database() as url:
        clock.set_database(url)
        yield url


@pytest.fixture
async def database(shared_url: str) -> AsyncIterator[Database]:
    async with Database(shared_url).opened() as database:
        yield database


@pytest.fixture(params=["own", "shared"])
async def counts(request: pytest.FixtureRequest, clock: SettableClock) -> AsyncIterator[RateCounts]:
    if request.param == "own":
        yield LocalRateCounts(clock)
        return
    async with Database(request.getfixturevalue("shared_url")).opened() as database:
        yield SharedRateCounts(database, clock)


def count_rows(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(rate_counts)).scalar_one()


async def test_a_window_opens_with_the_first_request_and_counts_the_others(
    counts: RateCounts, clock: SettableClock
) -> None:
    assert await counts.add("key", MINUTE) == (1, NOW + MINUTE)
    clock.move(59.5)
    assert await counts.add("key", MINUTE) == (2, NOW + MINUTE)


async def test_a_window_that_is_over_is_replaced_by_a_new_one(counts: RateCounts, clock: SettableClock) -> None:
    for number in range(1, 4):
        assert (await counts.add("key", MINUTE)).number == number
    clock.move(60)
    assert await counts.add("key", MINUTE) == (1, NOW + 2 * MINUTE)
    clock.move(3600)
    assert await counts.add("key", MINUTE) == (1, NOW + 62 * MINUTE)


async def test_each_key_has_a_window_of_its_own(counts: RateCounts, clock: SettableClock) -> None:
    await counts.add("one", MINUTE)
    clock.move(10)
    assert await counts.add("other", 2 * MINUTE) == (1, clock.now() + 2 * MINUTE)
    assert await counts.add("one", MINUTE) == (2, NOW + MINUTE)


async def test_of_many_at_once_each_is_counted_with_a_number_of_its_own(counts: RateCounts) -> None:
    found = await asyncio.gather(*(counts.add("key", MINUTE) for _ in range(50)))
    assert sorted(count.number for count in found) == list(range(1, 51))
    assert {count.ends_at for count in found} == {NOW + MINUTE}


async def test_a_clock_that_is_put_back_keeps_nobody_out_for_longer_than_a_window(
    counts: RateCounts, clock: SettableClock
) -> None:
    assert (await counts.add("key", MINUTE)).number == 1
    clock.move(-3600)
    assert await counts.add("key", MINUTE) == (1, clock.now() + MINUTE)


async def test_windows_that_are_over_are_forgotten_in_memory(clock: SettableClock) -> None:
    counts = LocalRateCounts(clock)
    for number in range(20):
        await counts.add(f"key {number}", MINUTE)
    await counts.add("long", 60 * MINUTE)
    assert len(counts) == 21
    clock.move(61)
    await counts.add("new", MINUTE)
    assert len(counts) == 2
    assert (await counts.add("long", 60 * MINUTE)).number == 2


async def test_windows_that_are_over_are_deleted_from_the_database(database: Database, clock: SettableClock) -> None:
    counts = SharedRateCounts(database, clock)
    for number in range(20):
        await counts.add(f"key {number}", MINUTE)
    await counts.add("long", 60 * MINUTE)
    assert await database.read(count_rows) == 21
    clock.move(61)
    await counts.add("new", MINUTE)
    assert await database.read(count_rows) == 2
    assert (await counts.add("long", 60 * MINUTE)).number == 2


async def test_two_processes_count_together(database: Database, shared_url: str, clock: SettableClock) -> None:
    async with Database(shared_url).opened() as second:
        both = [SharedRateCounts(one, clock) for one in (database, second)]
        found = await asyncio.gather(*(both[number % 2].add("key", MINUTE) for number in range(50)))
    assert sorted(count.number for count in found) == list(range(1, 51))


async def test_the_first_requests_of_a_new_window_are_counted_once_each_by_two_processes(
    database: Database, shared_url: str, clock: SettableClock
) -> None:
    async with Database(shared_url).opened() as second:
        both = [SharedRateCounts(one, clock) for one in (database, second)]
        for _ in range(3):
            await both[0].add("key", MINUTE)
        clock.move(60.5)
        # Both clean up at this moment, too, each beside the counting of the other.
        found = await asyncio.gather(*(both[number % 2].add("key", MINUTE) for number in range(20)))
    assert sorted(count.number for count in found) == list(range(1, 21))


async def test_cleaning_up_waits_for_nobody_who_counts(
    database: Database, shared_url: str, clock: SettableClock
) -> None:
    counts = SharedRateCounts(database, clock)
    for key in ("held", "free"):
        await counts.add(key, MINUTE)
    clock.move(61)
    loop = asyncio.get_running_loop()
    async with Database(shared_url).opened() as second:

        def clean_beside(connection: Connection) -> None:
            add_count(connection, "held", MINUTE)
            cleaning = second.write(forget_counts)
            asyncio.run_coroutine_threadsafe(cleaning, loop).result(timeout=20)

        # `run_sync` holds the loop, so this transaction has a thread and a connection of its own.
        await asyncio.to_thread(in_own_transaction, shared_url, clean_beside)
    assert await database.read(count_rows) == 1


def in_own_transaction(url: str, unit: Callable[[Connection], None]) -> None:
    with plain_engine(url).begin() as connection:
        unit(connection)


async def test_nobody_waits_for_the_disk_to_keep_a_count(database: Database) -> None:
    def unit(connection: Connection) -> list[object]:
        show = text("SHOW synchronous_commit")
        before = connection.execute(show).scalar_one()
        add_count(connection, "key", MINUTE)
        return [before, connection.execute(show).scalar_one()]

    assert await database.write(unit) == ["on", "off"]
    assert await database.read(lambda connection: connection.execute(text("SHOW synchronous_commit")).scalar()) == "on"


async def test_a_database_that_is_away_is_said_to_be(postgres: PostgresServer, clock: SettableClock) -> None:
    async with AsyncExitStack() as stack:
        with postgres.database(MIGRATED) as url:
            database = await stack.enter_async_context(Database(url).opened())
            counts = SharedRateCounts(database, clock)
            await counts.add("key", MINUTE)
        for _ in range(2):
            with pytest.raises(DatabaseUnavailable):
                await counts.add("key", MINUTE)


async def test_what_is_closed_counts_nothing(shared_url: str, clock: SettableClock) -> None:
    with pytest.raises(ShuttingDown):
        await SharedRateCounts(Database(shared_url), clock).add("key", MINUTE)
