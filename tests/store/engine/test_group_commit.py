"""Group commit: who waits shares the next transaction, and a failure reaches those whose work is lost, nobody else."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
from sqlalchemy import Connection, event, func, insert, select
from sqlalchemy.engine import Engine
from sqlalchemy.exc import IntegrityError

from tests.support.databases import NOW, PostgresServer, new_run
from tests.support.outages import away
from unpause.errors import DatabaseBusy, DatabaseUnavailable, ShuttingDown
from unpause.store.engine.database import Database
from unpause.store.engine.group_commit import GroupCommit
from unpause.store.engine.schema import plain_engine
from unpause.store.tables import organizations, runs

T = TypeVar("T")


class GatedLane:
    """A lane on a real connection that stands still before each transaction until it is let go."""

    def __init__(self, engine: Engine) -> None:
        self.begun = asyncio.Event()
        self.may_go = asyncio.Event()
        self.transactions = 0
        self._engine = engine

    async def run(self, work: Callable[[Connection], T], since: float | None = None) -> T:
        """Run the work once that is allowed."""
        del since
        self.begun.set()
        await self.may_go.wait()
        self.transactions += 1
        with self._engine.begin() as connection:
            return work(connection)


class NoLane:
    """A lane without a database."""

    async def run(self, work: Callable[[Connection], T], since: float | None = None) -> T:
        """Fail."""
        del work, since
        raise DatabaseUnavailable


def adding(prompt: str) -> Callable[[Connection], str]:
    def unit(connection: Connection) -> str:
        return new_run(connection, prompt=prompt).prompt

    return unit


def refused(connection: Connection) -> None:
    for _ in range(2):
        new_run(connection, run_id="the same")


def prompts(connection: Connection) -> list[str]:
    return list(connection.execute(select(runs.c.prompt).order_by(runs.c.id)).scalars())


@asynccontextmanager
async def gated(database_url: str) -> AsyncIterator[tuple[GroupCommit, GatedLane]]:
    """Write batches through a gated lane, and all of them at the end."""
    engine = plain_engine(database_url)
    batches, lane = GroupCommit(), GatedLane(engine)
    writing = asyncio.create_task(batches.write_all(lane))
    try:
        yield batches, lane
    finally:
        lane.may_go.set()
        batches.finish()
        await writing
        engine.dispose()


async def test_units_that_come_during_a_commit_share_the_next(database_url: str) -> None:
    async with gated(database_url) as (batches, lane):
        first = asyncio.create_task(batches.add(adding("first")))
        await lane.begun.wait()
        others = [asyncio.create_task(batches.add(adding(f"{number:03}"))) for number in range(100)]
        await asyncio.sleep(0)
        lane.may_go.set()
        assert await asyncio.gather(first, *others) == ["first", *(f"{number:03}" for number in range(100))]
        assert lane.transactions == 2
    assert prompts(plain_engine(database_url).connect()) == ["first", *(f"{number:03}" for number in range(100))]


async def test_one_that_fails_in_a_shared_transaction_takes_nobody_along(database_url: str) -> None:
    async with gated(database_url) as (batches, lane):
        tasks = [asyncio.create_task(batches.add(unit)) for unit in (adding("a"), refused, adding("b"))]
        await lane.begun.wait()
        lane.may_go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert lane.transactions == 1
    assert results[::2] == ["a", "b"]
    assert isinstance(results[1], IntegrityError)
    assert prompts(plain_engine(database_url).connect()) == ["a", "b"]


async def test_who_gives_up_while_waiting_is_not_waited_for(database_url: str) -> None:
    async with gated(database_url) as (batches, lane):
        tasks = [asyncio.create_task(batches.add(adding(name))) for name in ("a", "b")]
        await lane.begun.wait()
        tasks[0].cancel()
        lane.may_go.set()
        assert await tasks[1] == "b"
    with pytest.raises(asyncio.CancelledError):
        await tasks[0]
    # Its unit was on the way already.
    assert prompts(plain_engine(database_url).connect()) == ["a", "b"]


async def test_what_waits_at_the_end_is_written(database_url: str) -> None:
    async with gated(database_url) as (batches, lane):
        tasks = [asyncio.create_task(batches.add(adding(f"{number:03}"))) for number in range(300)]
        await lane.begun.wait()
    assert len(await asyncio.gather(*tasks)) == 300
    # More than one transaction takes.
    assert lane.transactions == 2


async def test_of_units_that_wait_for_locks_nobody_waits_on_where_their_task_is_interrupted() -> None:
    class BusyLane:
        async def run(self, work: Callable[[Connection], T], since: float | None = None) -> T:
            del work, since
            raise DatabaseBusy

    class StandingLane:
        def __init__(self) -> None:
            self.begun = asyncio.Event()

        async def run(self, work: Callable[[Connection], T], since: float | None = None) -> T:
            del work, since
            self.begun.set()
            return await asyncio.Event().wait()  # type: ignore[return-value] # it is interrupted before

    batches, lane = GroupCommit(), StandingLane()
    blocked = asyncio.create_task(batches.write_blocked(lane))
    await asyncio.sleep(0)
    # All of them find their rows locked in one transaction.
    units = [asyncio.create_task(batches.add(adding("no"))) for _ in range(3)]
    writing = asyncio.create_task(batches.write_all(BusyLane()))
    await lane.begun.wait()
    blocked.cancel()
    told, waiting = await asyncio.wait(units, timeout=10)
    for unit in (*waiting, *waiting):
        # Twice: at first its caller waits all the same.
        unit.cancel()
    assert not waiting
    assert [type(unit.exception()) for unit in told] == [ShuttingDown] * 3
    batches.finish()
    await asyncio.gather(blocked, writing, return_exceptions=True)


async def test_without_a_database_every_caller_is_told_and_the_next_is_tried_again(database_url: str) -> None:
    batches = GroupCommit()
    writing = asyncio.create_task(batches.write_all(NoLane()))
    for _ in range(2):
        results = await asyncio.gather(*(batches.add(adding("no")) for _ in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [DatabaseUnavailable] * 3
    batches.finish()
    await writing
    assert prompts(plain_engine(database_url).connect()) == []


async def test_several_lanes_share_the_work_and_all_of_them_end(database_url: str) -> None:
    engine = plain_engine(database_url)
    batches, lanes = GroupCommit(), [GatedLane(engine) for _ in range(2)]
    writing = [asyncio.create_task(batches.write_all(lane)) for lane in lanes]
    first = asyncio.create_task(batches.add(adding("first")))
    async with asyncio.timeout(60):
        await asyncio.wait(
            [asyncio.create_task(lane.begun.wait()) for lane in lanes], return_when=asyncio.FIRST_COMPLETED
        )
    second = asyncio.create_task(batches.add(adding("second")))
    # The other lane takes it: nobody waits for a transaction that stands still.
    for lane in lanes:
        await lane.begun.wait()
    batches.finish()
    for lane in lanes:
        lane.may_go.set()
    assert [await first, await second] == ["first", "second"]
    async with asyncio.timeout(60):
        await asyncio.gather(*writing)
    assert [lane.transactions for lane in lanes] == [1, 1]
    engine.dispose()


async def test_appends_that_come_together_take_few_transactions(database_url: str) -> None:
    async with Database(database_url).opened() as database:
        commits: list[object] = []

        def note(connection: object) -> None:
            commits.append(connection)

        event.listen(Engine, "commit", note)
        try:
            added = await asyncio.gather(*(database.append(adding(f"{number:03}")) for number in range(100)))
        finally:
            event.remove(Engine, "commit", note)
        kept = await database.read(lambda connection: connection.execute(select(func.count(runs.c.id))).scalar_one())
    assert added == [f"{number:03}" for number in range(100)]
    assert kept == 100
    assert 1 <= len(commits) <= 4


async def test_appends_to_a_database_that_is_away_fail_and_work_once_it_is_back(
    postgres: PostgresServer, postgres_url: str
) -> None:
    async with Database(postgres_url).opened() as database:
        assert await database.append(adding("before")) == "before"
        with away(postgres, postgres_url):
            results = await asyncio.gather(
                *(database.append(adding(f"no {number}")) for number in range(20)), return_exceptions=True
            )
            assert {type(result) for result in results} == {DatabaseUnavailable}
            with pytest.raises(DatabaseUnavailable):
                await database.write(adding("no"))
            with pytest.raises(DatabaseUnavailable):
                await database.read(prompts)
        assert await database.append(adding("after")) == "after"
        assert await database.read(prompts) == ["before", "after"]


async def test_a_transaction_waits_for_locks_for_a_moment_however_it_begins(postgres_url: str) -> None:
    def limit(connection: Connection) -> object:
        return connection.exec_driver_sql("SHOW lock_timeout").scalar()

    def by_many(connection: Connection) -> object:
        rows = [{"name": name, "created_at": NOW} for name in ("a", "b")]
        connection.execute(insert(organizations), rows)
        return limit(connection)

    async with Database(postgres_url).opened() as database:
        assert [await database.write(unit) for unit in (limit, by_many)] == ["100ms", "100ms"]
        assert (await database.append(by_many), await database.read(limit)) == ("100ms", "100ms")


async def test_postgresql_ends_a_transaction_that_is_left_idle_and_frees_its_locks(postgres_url: str) -> None:
    def lock(connection: Connection) -> int:
        return len(connection.execute(select(runs.c.id).with_for_update()).all())

    def freeze(connection: Connection) -> None:
        adding("lost")(connection)
        lock(connection)
        time.sleep(1.0)  # longer than the limit below
        lock(connection)

    # What must go on has the usual limit: the time between its own statements may be long on a busy machine.
    async with Database(postgres_url).opened() as database, Database(postgres_url, idle_seconds=0.2).opened() as hasty:
        await database.write(adding("kept"))
        with pytest.raises(DatabaseUnavailable):
            await hasty.write(freeze)
        assert await database.write(lock) == 1
        assert await database.read(prompts) == ["kept"]


async def test_a_unit_waits_since_it_was_added_or_since_the_database_answered() -> None:
    """So what it waits behind others that get no answer is part of how long it waits for the database."""
    moments, waits, answers = iter(range(100)), list[float | None](), deque([False, False, True, True])

    class SilentLane:
        async def run(self, work: Callable[[Connection], T], since: float | None = None) -> T:
            waits.append(since)
            await asyncio.sleep(0)
            if answers.popleft():
                return work(None)  # type: ignore[arg-type] # they use none
            raise DatabaseUnavailable

    batches = GroupCommit(now=lambda: float(next(moments)))
    writing = asyncio.create_task(batches.write_all(SilentLane()))
    first = asyncio.create_task(batches.add(lambda _: None))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    second = asyncio.create_task(batches.add(lambda _: None))
    for each in (first, second):
        with pytest.raises(DatabaseUnavailable):
            await each
    await batches.add(lambda _: None)
    await batches.add(lambda _: None)
    batches.finish()
    await writing
    # At 0 it was made; the third unit got an answer at 4.
    assert waits == [1.0, 2.0, 3.0, 5.0]
