"""Nodes whose clocks differ, or step, take no run from one another: what they compare is the database's clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.support.database_clock import DatabaseClock
from tests.support.databases import NOW
from tests.support.holding_driver import HoldingDriver
from tests.support.reaching import until
from tests.support.runs import ADA, follow, look
from tests.support.serving import application_for, settings_for
from tests.support.webhook_server import once
from unpause.bootstrap import Application
from unpause.clock import SystemClock
from unpause.domain.runs import RunStatus
from unpause.execution.clock_sync import ClockSync
from unpause.services.commands import CreateRun
from unpause.store.engine.database import Database
from unpause.store.tables import runs


class WrongClock:
    """A machine's clock that is wrong by so many seconds."""

    def __init__(self, by: float) -> None:
        self.by = by

    def now(self) -> datetime:
        """Return what it shows."""
        return datetime.now(UTC) + timedelta(seconds=self.by)


class Nodes:
    """Three nodes that execute runs, one after the other with a clock of its own."""

    def __init__(self) -> None:
        self.clocks = [WrongClock(0), WrongClock(-300), WrongClock(-60)]
        self.drivers = [HoldingDriver() for _ in self.clocks]
        self.applications: list[Application] = []

    async def beat_and_sweep(self) -> None:
        """Have all leases be renewed, and each node look for those that are over."""
        before = await self._leases()
        for application in self.applications:
            assert application.engine.heartbeat is not None
            application.engine.heartbeat.beat_soon()
        await once(self._leases, lambda leases: all(now > then for now, then in zip(leases, before, strict=True)))
        for application in self.applications:
            assert await application.recovery.sweep() == 0

    async def _leases(self) -> list[datetime]:
        """Return until when each run is held, by the database's clock."""
        query = select(runs.c.lease_expires_at).where(runs.c.status == "RUNNING").order_by(runs.c.id)
        read = self.applications[0].database.read
        return await read(lambda connection: list(connection.execute(query).scalars()))

    def taken_back(self) -> int:
        """Return how many runs were claimed more than once."""
        started = [run for driver in self.drivers for run in driver.started]
        return len(started) - len(set(started))


@pytest.fixture
async def nodes(tmp_path: Path, postgres_url: str) -> AsyncIterator[Nodes]:
    """Run the nodes, with leases shorter than their clocks are wrong, which are looked at all the time.

    They last longer than the machine may stand still, and nobody whose lease is over gets time to say that it lives.
    """
    made = Nodes()
    settings = settings_for(
        tmp_path, database_url=postgres_url, lease_seconds=30, sweep_seconds=0.1, max_running=4, database_connections=4
    )
    async with AsyncExitStack() as stack:
        for clock, driver in zip(made.clocks, made.drivers, strict=True):
            application = application_for(settings, [driver], clock)
            application.recovery._patience = 0.0  # noqa: SLF001 - it would hide what a wrong clock does
            await stack.enter_async_context(application.running())
            made.applications.append(application)
        yield made


async def test_no_node_loses_a_run_to_one_whose_clock_is_wrong_or_steps(nodes: Nodes) -> None:
    first = nodes.applications[0]
    created = [await first.service.create_run(ADA, CreateRun("holding", "hello")) for _ in range(12)]
    await until(lambda: sum(len(driver.started) for driver in nodes.drivers) == len(created))
    assert all(driver.started for driver in nodes.drivers)
    await nodes.beat_and_sweep()
    # One steps ahead, one is put right and one goes on being wrong.
    nodes.clocks[0].by, nodes.clocks[1].by = 80, 0
    await nodes.beat_and_sweep()
    assert nodes.taken_back() == 0
    for driver in nodes.drivers:
        await driver.let_go()
    for accepted in created:
        await follow(first, accepted.run)
        ended = (await look(first, accepted.run)).run
        assert (ended.status, ended.fence, ended.crashes) == (RunStatus.COMPLETED, 1, 0)


async def test_a_process_goes_by_the_database_and_not_by_its_machine(postgres_url: str) -> None:
    database_clock, clock = DatabaseClock(postgres_url), SystemClock()
    async with Database(postgres_url).opened() as database:
        keeper = ClockSync(database, clock)
        for moment in (NOW, NOW + timedelta(hours=1), NOW - timedelta(days=400)):
            database_clock.show(moment)
            assert await keeper.sweep() == 1
            assert timedelta() <= clock.now() - moment < timedelta(seconds=30)


def test_a_clock_that_was_set_counts_on_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [100.0]
    monkeypatch.setattr("unpause.clock.elapsed_seconds", lambda: seconds[0])
    clock = SystemClock()
    clock.synchronize(NOW)
    seconds[0] += 5
    assert clock.now() == NOW + timedelta(seconds=5)
