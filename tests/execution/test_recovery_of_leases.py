"""Runs of workers that are gone are taken back, once each, and those of workers that live are not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager, AsyncExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import insert, update

from tests.support.databases import NOW, Place, PostgresServer, dump, new_run
from tests.support.outages import away
from tests.support.reaching import until
from tests.support.runs import answer, look, start_and_follow
from tests.support.scripted_driver import ScriptedDriver
from tests.support.server import SettableClock
from tests.support.serving import running, settings_for
from unpause.agents.driver import Journal, Segment, SegmentEnd
from unpause.clock import SystemClock
from unpause.domain.events import EventType
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import EndReason, Run, RunStatus
from unpause.domain.transitions import Trigger
from unpause.errors import DatabaseUnavailable
from unpause.execution.recovery import Recovery
from unpause.services.claims import Slot
from unpause.store.engine.database import Connection, Database
from unpause.store.events import list_events
from unpause.store.run_queue import renew_leases
from unpause.store.runs import find_by_key, transition
from unpause.store.tables import organizations, runs, webhook_targets
from unpause.streaming.bus import InProcessBus

pytestmark = pytest.mark.sql

T = TypeVar("T")

_LEASE = timedelta(seconds=10)

# Rules that no SQL is about.
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


class Heard:
    """A dispatcher that writes down which runs are ready."""

    def __init__(self) -> None:
        self.ready_runs: list[int] = []

    def ready(self, run_key: int) -> None:
        """Note the run."""
        self.ready_runs.append(run_key)

    def reserving(self) -> AbstractContextManager[Slot | None]:
        """Nobody asks."""
        raise AssertionError

    def pause_requested(self, run_key: int) -> None:
        """Nobody asks."""
        raise AssertionError(run_key)

    def cancelled(self, run_key: int) -> None:
        """Nobody asks."""
        raise AssertionError(run_key)


class Meanwhile(Database):
    """A database where something happens between the look for stale leases and the first write after it."""

    def __init__(self, url: str, unit: Callable[[Connection], object]) -> None:
        super().__init__(url)
        self._unit: Callable[[Connection], object] | None = unit

    async def write(
        self, unit: Callable[[Connection], T], then: Callable[[T], None] | None = None, *, waits: bool = True
    ) -> T:
        """Do what happens meanwhile, once, and then the unit."""
        meanwhile, self._unit = self._unit, None
        if meanwhile is not None:
            await super().write(meanwhile)
        return await super().write(unit, then, waits=waits)


class Sweeper:
    """One process's recovery, at a time that the test sets."""

    def __init__(self, database: Database, *, max_crashes: int = 10, patience: timedelta = timedelta()) -> None:
        self.clock = SettableClock()
        self.clock.set_database(database.url.render_as_string(hide_password=False))
        self.received = Heard()
        self.database = database
        self.bus = InProcessBus()
        self.recovery = Recovery(database, self.bus, self.received, self.clock, max_crashes, patience)

    async def has_running(self, lease_seconds: float, **values: object) -> int:
        """Add a run that is RUNNING with a lease that ends in so many seconds."""
        ends = self.clock.now() + timedelta(seconds=lease_seconds)

        def unit(connection: Connection) -> int:
            return new_run(connection, RunStatus.RUNNING, fence=1, lease_expires_at=ends, **values).id

        return await self.database.write(unit)

    async def look(self, run_key: int) -> Run:
        """Return the run."""
        run = await self.database.read(lambda connection: find_by_key(connection, run_key))
        assert run is not None
        return run


async def test_a_run_whose_lease_is_over_is_taken_back(database_url: str) -> None:
    async with Database(database_url).opened() as database:
        sweeper = Sweeper(database)
        run = await sweeper.has_running(-1)
        assert await sweeper.recovery.sweep() == 1
        taken = await sweeper.look(run)
        assert (taken.status, taken.fence, taken.crashes, taken.lease_expires_at) == (RunStatus.PENDING, 1, 1, None)
        assert sweeper.received.ready_runs == [run]
        assert await sweeper.recovery.sweep() == 0


async def test_runs_whose_lease_is_not_over_and_those_that_do_not_run_are_left_alone(database_url: str) -> None:
    async with Database(database_url).opened() as database:
        sweeper = Sweeper(database)
        await sweeper.has_running(0)
        await sweeper.has_running(5)

        long_ago = sweeper.clock.now() - _LEASE

        def unit(connection: Connection) -> None:
            for status in set(RunStatus) - {RunStatus.RUNNING}:
                new_run(connection, status, lease_expires_at=long_ago)

        await database.write(unit)
        before = await database.read(dump)
        assert await sweeper.recovery.sweep() == 0
        assert await database.read(dump) == before
        sweeper.clock.move(5)
        assert await sweeper.recovery.sweep() == 1
        assert len(sweeper.received.ready_runs) == 1


def renewed(run: int, until_when: timedelta) -> Callable[[Connection], object]:
    return lambda connection: renew_leases(connection, [(run, 1)], until_when, SettableClock().now())


def taken_over(run: int) -> Callable[[Connection], object]:
    """Take the run back and execute it, as another process does."""

    def unit(connection: Connection) -> None:
        now = SettableClock().now()
        transition(connection, run, Trigger.RELEASE, changes={"updated_at": now, "crashes": 1})
        transition(connection, run, Trigger.CLAIM, changes={"updated_at": now, "lease_expires_at": now + _LEASE})

    return unit


def paused(run: int) -> Callable[[Connection], object]:
    return lambda connection: transition(
        connection, run, Trigger.PAUSE, fence=1, changes={"updated_at": NOW, "lease_expires_at": None}
    )


def deleted(run: int) -> Callable[[Connection], object]:
    return lambda connection: connection.execute(runs.delete().where(runs.c.id == run))


@pytest.mark.parametrize("meanwhile", [lambda run: renewed(run, _LEASE), taken_over, paused, deleted])
async def test_a_run_that_somebody_was_heard_of_about_meanwhile_is_left_alone(
    database_url: str, meanwhile: Callable[[int], Callable[[Connection], object]]
) -> None:
    async with Database(database_url).opened() as usual:
        run = await Sweeper(usual).has_running(-1)
    async with Meanwhile(database_url, meanwhile(run)).opened() as database:
        sweeper = Sweeper(database)
        assert await sweeper.recovery.sweep() == 0
        found = await database.read(lambda connection: find_by_key(connection, run))
        assert found is None or found.status is not RunStatus.PENDING
        assert found is None or found.crashes == (1 if meanwhile is taken_over else 0)
        assert sweeper.received.ready_runs == []


@on_sqlite
async def test_a_lease_that_was_renewed_for_too_short_does_not_help(database_url: str) -> None:
    async with Database(database_url).opened() as usual:
        run = await Sweeper(usual).has_running(-3)
    async with Meanwhile(database_url, renewed(run, timedelta(seconds=-1))).opened() as database:
        assert await Sweeper(database).recovery.sweep() == 1


async def test_sweepers_at_once_take_each_run_back_once(database_url: str) -> None:
    # On SQLite all are of the one process that there is.
    count = 40
    async with AsyncExitStack() as stack:
        databases = [await stack.enter_async_context(Database(database_url).opened())]
        if databases[0].is_shared:
            databases += [await stack.enter_async_context(Database(database_url).opened()) for _ in range(2)]
        sweepers = [Sweeper(databases[number % len(databases)]) for number in range(3)]
        stale = [await sweepers[0].has_running(-1) for _ in range(count)]
        counts = await asyncio.gather(*(sweeper.recovery.sweep() for sweeper in sweepers))
        assert sum(counts) == count
        assert sorted(run for sweeper in sweepers for run in sweeper.received.ready_runs) == stale
        assert {(await sweepers[0].look(run)).crashes for run in stale} == {1}


# -------------------------------------------------------------------------------- crashes


@on_sqlite
async def test_a_run_under_which_workers_die_again_and_again_ends_and_says_why(database_url: str) -> None:
    async with Database(database_url).opened() as database:
        sweeper = Sweeper(database, max_crashes=3)
        run = await sweeper.has_running(-1)
        await database.write(
            lambda connection: connection.execute(
                insert(webhook_targets).values(organization_id=1, url="https://example.invalid/", created_at=NOW)
            )
        )
        with sweeper.bus.subscribed(run) as subscription:
            for crashes in (1, 2):
                assert await sweeper.recovery.sweep() == 1
                assert (await sweeper.look(run)).crashes == crashes
                claimed = {"updated_at": NOW, "lease_expires_at": sweeper.clock.now() - _LEASE}
                await database.write(partial(transition, run_key=run, trigger=Trigger.CLAIM, changes=claimed))
            assert await sweeper.recovery.sweep() == 1
            (reported,) = await subscription.next_batch(60)
        ended = await sweeper.look(run)
        (logged,) = await database.read(lambda connection: list_events(connection, run, 0, 10))
        deliveries = (await database.read(dump))["webhook_deliveries"]
        assert await sweeper.recovery.sweep() == 0
    message = "The run's worker died 3 times while it executed the run"
    assert (ended.status, ended.end_reason, ended.content) == (RunStatus.ERROR, EndReason.CRASHED, message)
    assert (ended.crashes, ended.lease_expires_at) == (3, None)
    assert ended.ended_at is not None
    assert reported == logged
    assert (logged.type, logged.payload) == (EventType.RUN_FAILED, {"content": message, "reason": "crashed"})
    assert (logged.sequence, ended.last_sequence) == (1, 1)
    assert ['"type":"agent_run.error"' in delivery["payload"] for delivery in deliveries] == [True]
    # It was made ready twice; the third time there was nothing left to execute.
    assert sweeper.received.ready_runs == [run, run]


@on_sqlite
async def test_one_crash_is_enough_where_no_more_are_allowed(database_url: str) -> None:
    async with Database(database_url).opened() as database:
        sweeper = Sweeper(database, max_crashes=1)
        run = await sweeper.has_running(-1)
        await sweeper.recovery.sweep()
        assert (await sweeper.look(run)).status is RunStatus.ERROR


class HeldAfterThePause(ScriptedDriver):
    """Waits before the continued segment does anything: the first call that ends resets the crashes as well."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = asyncio.Event()

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Wait, in the continued segment."""
        if segment.messages:
            await self.may_go_on.wait()
        return await super().run_segment(segment, journal)


async def test_a_continue_forgets_the_crashes(tmp_path: Path) -> None:
    driver = HeldAfterThePause()
    async with running(tmp_path, drivers=[driver]) as application:
        view = await start_and_follow(application)
        await application.database.write(
            lambda connection: connection.execute(update(runs).where(runs.c.id == view.run.id).values(crashes=7))
        )
        await answer(application, view.run, ToolAnswer(f"call-{view.run.id}", confirmed=True))
        continued = (await look(application, view.run)).run
        driver.may_go_on.set()
    assert (continued.status, continued.crashes) == (RunStatus.RUNNING, 0)


# -------------------------------------------------------------------------------- the database away


async def test_after_the_database_was_away_those_who_live_get_time_to_say_so(
    postgres: PostgresServer, postgres_url: str
) -> None:
    patience = timedelta(seconds=2)
    async with Database(postgres_url).opened() as database:
        sweeper = Sweeper(database, patience=patience)
        alive, dead = await sweeper.has_running(5), await sweeper.has_running(5)
        assert await sweeper.recovery.sweep() == 0
        with away(postgres, postgres_url), pytest.raises(DatabaseUnavailable):
            await sweeper.recovery.sweep()
        # Longer than both leases.
        sweeper.clock.move(20)
        swept = asyncio.get_running_loop().time()
        assert await sweeper.recovery.sweep() == 0
        await database.write(
            lambda connection: renew_leases(connection, [(alive, 1)], timedelta(minutes=1), sweeper.clock.now())
        )
        counts: list[int] = []
        while not any(counts):
            counts.append(await sweeper.recovery.sweep())
            await asyncio.sleep(0.1)
        # Half of it: a look that takes long counts as being away.
        assert asyncio.get_running_loop().time() - swept >= patience.total_seconds() / 2
        assert sweeper.received.ready_runs == [dead]
        assert (await sweeper.look(alive)).crashes == 0


@pytest.mark.parametrize("step", [3600, -3600])
async def test_after_the_database_s_clock_stepped_those_who_live_get_time_to_say_so(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    elapsed = SettableClock()
    monkeypatch.setattr("unpause.execution.recovery.monotonic", lambda: elapsed.now().timestamp())
    async with Database(postgres_url).opened() as database:
        sweeper = Sweeper(database, patience=timedelta(seconds=1))
        alive, dead = await sweeper.has_running(5), await sweeper.has_running(5)
        counts = [await sweeper.recovery.sweep()]
        for clock in (elapsed, sweeper.clock):
            clock.move(1.1)
        counts.append(await sweeper.recovery.sweep())
        # Such as a standby with another clock.
        sweeper.clock.move(step)
        counts.append(await sweeper.recovery.sweep())
        await database.write(lambda connection: renew_leases(connection, [(alive, 1)], _LEASE, sweeper.clock.now()))
        for clock in (elapsed, sweeper.clock):
            clock.move(1.1)
        assert (counts, await sweeper.recovery.sweep()) == ([0, 0, 0], 1)
        assert sweeper.received.ready_runs == [dead]


async def test_a_server_takes_back_what_a_dead_worker_left_and_executes_it(tmp_path: Path, postgres_url: str) -> None:
    settings: dict[str, Any] = {"sweep_seconds": 0.1, "poll_seconds": 3600.0}
    driver = ScriptedDriver()
    async with running(tmp_path, drivers=[driver], database_url=postgres_url, **settings) as application:
        # Whoever lives had its time to say so.
        application.recovery._patience = 0.0  # noqa: SLF001 - otherwise half of a lease
        ended = NOW - _LEASE
        run = await application.database.write(
            lambda connection: new_run(connection, RunStatus.RUNNING, fence=1, lease_expires_at=ended)
        )
        statuses: list[Run] = []

        async def look() -> None:
            found = await application.database.read(lambda connection: find_by_key(connection, run.id))
            statuses.extend([found] if found is not None and found.status is RunStatus.PAUSED else [])

        async with asyncio.timeout(60):
            while not statuses:
                await look()
                await asyncio.sleep(0.05)
        await until(lambda: not application.executor.list_held())
    assert (statuses[0].fence, statuses[0].crashes) == (2, 1)


# -------------------------------------------------------------------------------- at the start


async def test_only_runs_that_were_running_are_made_pending_and_heard_of(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)

    def unit(connection: Connection) -> list[Run]:
        connection.execute(insert(organizations).values(name="other", created_at=NOW))
        return [
            new_run(connection, status, fence=number, lease_expires_at=NOW, organization_id=1 + number % 2)
            for number, status in enumerate([*RunStatus, *RunStatus])
        ]

    received = Heard()
    async with Database(settings.database_url).opened() as database:
        recovery = Recovery(database, InProcessBus(), received, SystemClock(), max_crashes=10)
        assert await recovery.take_back_all() == 0, "there is nothing yet"
        made = await database.write(unit)
        before = await database.read(dump)
        counts = [await recovery.take_back_all(), await recovery.take_back_all()]
    after = Place(settings.database_url).dump()
    assert counts == [2, 0]
    assert received.ready_runs == [run.id for run in made if run.status is RunStatus.RUNNING]
    for run, was, now in zip(made, before["runs"], after["runs"], strict=True):
        assert now["fence"] == run.fence
        if run.status is RunStatus.RUNNING:
            assert (now["status"], now["lease_expires_at"], now["crashes"]) == ("PENDING", None, 1)
        else:
            assert now == was
