"""Workers execute what is ready: heard of or found, in as many slots as there are, fairly, and none at a stop."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import insert

from tests.support.databases import NOW, PostgresServer, new_run
from tests.support.gates import Gates
from tests.support.holding_driver import HoldingDriver
from tests.support.outages import away
from tests.support.reaching import reached, until
from tests.support.runs import ADA, answer, start
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import running
from unpause.bootstrap import Application
from unpause.domain.principal import Principal
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import RunRef, RunStatus
from unpause.services.claims import Claimed
from unpause.services.commands import CreateRun
from unpause.store.engine.database import Connection
from unpause.store.tables import organizations
from unpause.streaming.bus import Signal

_NEVER = 3600.0
_POLL_SECONDS = 0.1
_COMPLETED = RunStatus.COMPLETED
_GRACE = 0.0


@asynccontextmanager
async def node(
    folder: Path,
    url: str | None,
    driver: HoldingDriver,
    **settings: Any,  # noqa: ANN401 - any setting
) -> AsyncIterator[Application]:
    """Run one process's application; segments that are held at the end are given back at once."""
    usual: dict[str, Any] = {"shutdown_grace_seconds": _GRACE, "sweep_seconds": _NEVER, "poll_seconds": _NEVER}
    async with running(folder, drivers=[driver], database_url=url, **{**usual, **settings}) as application:
        yield application


@asynccontextmanager
async def nodes(
    folder: Path,
    url: str,
    drivers: list[HoldingDriver],
    **settings: Any,  # noqa: ANN401 - any setting
) -> AsyncIterator[list[Application]]:
    """Run a process for each driver on one database."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(node(folder, url, driver, **settings)) for driver in drivers]


async def started_by(application: Application, organization: int, count: int = 1) -> list[int]:
    """Make runs of an organization, one after the other."""
    principal = Principal(organization, "ada", "agno")
    return [
        (await application.service.create_run(principal, CreateRun("holding", f"{number}"))).run.id
        for number in range(count)
    ]


async def with_organization(application: Application, number: int) -> None:
    """Have another organization."""

    def unit(connection: Connection) -> None:
        connection.execute(insert(organizations).values(id=number, name=f"{number}", created_at=NOW))

    await application.database.write(unit)


async def unheard(application: Application) -> int:
    """Make a run that nobody is told of."""
    return await application.database.write(lambda connection: new_run(connection, agent_id="holding").id)


# -------------------------------------------------------------------------------- hearing and finding


async def test_a_run_is_executed_when_it_is_heard_of(tmp_path: Path) -> None:
    driver = HoldingDriver()
    async with node(tmp_path, None, driver) as application:
        run = await start(application)
        await driver.has_started(1)
        await driver.let_go()
        ended = await reached(application.database, run.id, _COMPLETED)
    assert (ended.fence, ended.lease_expires_at, ended.content) == (1, None, "hello")


async def test_a_run_that_is_pending_at_the_start_is_found(tmp_path: Path) -> None:
    driver = HoldingDriver()
    async with node(tmp_path, None, driver) as application:
        run = await start(application)
        await driver.has_started(1)
    again = HoldingDriver()
    await again.let_go()
    async with node(tmp_path, None, again) as application:
        await reached(application.database, run.id, _COMPLETED)
    assert (driver.started, again.started) == ([run.id], [run.id])


async def test_a_run_made_elsewhere_is_executed_without_a_poll(tmp_path: Path, postgres_url: str) -> None:
    driver, idle = HoldingDriver(), HoldingDriver()
    await driver.let_go()
    async with (
        node(tmp_path, postgres_url, driver) as worker,
        node(tmp_path, postgres_url, idle, worker=False) as server,
    ):
        runs = [(await start(server)).id for _ in range(5)]
        for run in runs:
            await reached(worker.database, run, _COMPLETED)
    assert sorted(driver.started) == runs
    assert idle.started == []


async def test_a_run_that_nobody_was_told_of_is_found_within_a_poll_interval(tmp_path: Path, database_url: str) -> None:
    driver = HoldingDriver()
    await driver.let_go()
    async with node(tmp_path, database_url, driver, poll_seconds=_POLL_SECONDS) as application:
        for _ in range(3):
            await reached(application.database, await unheard(application), _COMPLETED)


async def test_each_run_is_executed_by_one_of_several_workers(tmp_path: Path, postgres_url: str) -> None:
    drivers = [HoldingDriver() for _ in range(3)]
    async with nodes(tmp_path, postgres_url, drivers, poll_seconds=_POLL_SECONDS, max_running=4) as applications:
        for driver in drivers:
            await driver.let_go()
        runs = [run.id for run in await asyncio.gather(*(start(applications[0]) for _ in range(40)))]
        for run in runs:
            assert (await reached(applications[1].database, run, _COMPLETED)).fence == 1
    assert sorted(run for driver in drivers for run in driver.started) == sorted(runs)


async def test_a_run_cancelled_elsewhere_is_stopped(tmp_path: Path, postgres_url: str) -> None:
    driver = HoldingDriver()
    async with (
        node(tmp_path, postgres_url, driver) as worker,
        node(tmp_path, postgres_url, HoldingDriver(), worker=False) as server,
    ):
        run = await start(server)
        await driver.has_started(1)
        await server.service.cancel_run(ADA, RunRef(id=run.id))
        await until(lambda: not driver.running[1] and not worker.executor.list_held())
        assert (await reached(worker.database, run.id, RunStatus.CANCELLED)).fence == 1


async def test_a_pause_asked_for_elsewhere_is_heard_by_the_segment(tmp_path: Path, postgres_url: str) -> None:
    driver = HoldingDriver()
    async with (
        node(tmp_path, postgres_url, driver) as worker,
        node(tmp_path, postgres_url, HoldingDriver(), worker=False) as server,
    ):
        run = await start(server)
        await driver.has_started(1)
        (recorder,) = worker.executor._journals.values()  # noqa: SLF001 - no driver here looks at it
        assert not recorder.stop_requested
        await server.service.pause_run(ADA, RunRef(id=run.id))
        await until(lambda: recorder.stop_requested)


async def test_a_run_that_is_ready_again_before_its_segment_has_quite_ended_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The pause is on disk, and its segment has something left to do, such as to tell its followers.
    lingering, may_end = asyncio.Event(), asyncio.Event()
    driver = ScriptedDriver()
    settings: dict[str, Any] = {"sweep_seconds": _NEVER, "poll_seconds": _NEVER}
    async with running(tmp_path, drivers=[driver], **settings) as application:
        execute = application.executor.execute

        async def linger(run_key: int, claimed: Claimed | None) -> bool:
            again = await execute(run_key, claimed)
            lingering.set()
            await may_end.wait()
            return again

        monkeypatch.setattr(application.executor, "execute", linger)
        run = await start(application)
        async with asyncio.timeout(60):
            await lingering.wait()
        continued = await answer(application, run, ToolAnswer(f"call-{run.id}", confirmed=True))
        assert continued.moved
        # It was heard of and looked for in vain.
        workers = application.workers
        await until(lambda: not workers._announced and not workers._is_behind)  # noqa: SLF001 - nothing else shows it
        may_end.set()
        await reached(application.database, run.id, _COMPLETED)


# -------------------------------------------------------------------------------- slots, limits, fairness


@pytest.mark.sql
async def test_no_more_runs_are_executed_at_once_than_there_are_slots(tmp_path: Path, database_url: str) -> None:
    driver = HoldingDriver()
    async with node(tmp_path, database_url, driver, max_running=2) as application:
        runs = await started_by(application, 1, 6)
        await driver.has_started(2)
        for count, run in enumerate(list(runs[:4]), start=3):
            assert driver.running[1] == 2
            await driver.let_go(run)
            await driver.has_started(count)
        await driver.let_go()
        for run in runs:
            await reached(application.database, run, _COMPLETED)
    assert driver.most[1] == 2
    # The first two begin at the same time, each with a connection of its own.
    assert [set(driver.started[:2]), *driver.started[2:]] == [set(runs[:2]), *runs[2:]]


async def test_a_request_that_takes_the_last_slot_during_a_poll_leaves_what_that_found_in_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = HoldingDriver()
    gates = Gates("poll")
    async with node(tmp_path, None, driver, max_running=1, poll_seconds=_POLL_SECONDS) as application:
        workers = application.workers
        await until(lambda: not workers._is_behind)  # noqa: SLF001 - before, requests claim nothing

        async def read_slowly(unit: Callable[[Connection], list[int]]) -> list[int]:
            found = await application.database.read(unit)
            if found:
                await gates.pass_through("poll")
            return found

        monkeypatch.setattr(workers, "_database", SimpleNamespace(read=read_slowly))
        first = await unheard(application)
        workers._on_signal(Signal.READY, None)  # noqa: SLF001 - as the bus does
        await gates.reached("poll")
        (second,) = await started_by(application, 1)
        gates.open("poll")
        await until(lambda: workers._is_behind or len(workers._segments) > 1)  # noqa: SLF001 - the poll is over
        assert list(workers._segments) == [second]  # noqa: SLF001
        await driver.let_go()
        for run in (first, second):
            await reached(application.database, run, _COMPLETED)


@pytest.mark.sql
async def test_an_organization_runs_no_more_at_once_than_it_may_on_all_workers_together(
    tmp_path: Path, database_url: str
) -> None:
    # On SQLite there is one process; on PostgreSQL two that claim at the same time.
    driver = HoldingDriver()
    drivers = [driver] if database_url.startswith("sqlite") else [driver, driver]
    limits: dict[str, Any] = {"max_running_per_organization": 2, "poll_seconds": _POLL_SECONDS}
    async with nodes(tmp_path, database_url, drivers, **limits) as applications:
        await with_organization(applications[0], 2)
        runs = await started_by(applications[0], 1, 6)
        await driver.has_started(2)
        (other,) = await started_by(applications[-1], 2)
        await driver.has_started(3)
        assert driver.running == {1: 2, 2: 1}
        await driver.let_go()
        for run in (*runs, other):
            assert (await reached(applications[0].database, run, _COMPLETED)).fence == 1
    assert driver.most == {1: 2, 2: 1}
    assert Counter(driver.started) == Counter([*runs, other])


@pytest.mark.sql
async def test_many_runs_of_one_organization_do_not_keep_the_one_of_another_waiting(
    tmp_path: Path, database_url: str
) -> None:
    driver = HoldingDriver()
    async with node(tmp_path, database_url, driver, max_running=2) as application:
        await with_organization(application, 2)
        runs = await started_by(application, 1, 40)
        await driver.has_started(2)
        (other,) = await started_by(application, 2)
        await driver.let_go()
        for run in (*runs, other):
            await reached(application.database, run, _COMPLETED)
    # Behind those that ran already, and at most what was looked for with the same look.
    assert driver.started.index(other) <= 4


# -------------------------------------------------------------------------------- stopping


async def test_a_stop_gives_running_segments_back(tmp_path: Path) -> None:
    driver = HoldingDriver()
    async with node(tmp_path, None, driver) as application:
        runs = await started_by(application, 1, 3)
        await driver.has_started(3)
        database = application.database
    again = HoldingDriver()
    async with node(tmp_path, None, again, max_running=1) as application:
        await again.has_started(1)
        found = [await reached(application.database, run, RunStatus.PENDING, RunStatus.RUNNING) for run in runs]
        assert [run.status for run in found] == [RunStatus.RUNNING, RunStatus.PENDING, RunStatus.PENDING]
        # Given back and not left: nobody's worker died.
        assert [(run.fence, run.crashes) for run in found] == [(2, 0), (1, 0), (1, 0)]
        assert [run.lease_expires_at for run in found[1:]] == [None, None]
        await again.let_go()
        for run in runs:
            assert (await reached(application.database, run, _COMPLETED)).fence == 2
    assert database is not application.database


async def test_another_worker_goes_on_at_once_with_what_a_stopping_one_gives_back(
    tmp_path: Path, postgres_url: str
) -> None:
    first, second = HoldingDriver(), HoldingDriver()
    await second.let_go()
    async with AsyncExitStack() as stack:
        stopping = await stack.enter_async_context(node(tmp_path, postgres_url, first))
        run = await start(stopping)
        await first.has_started(1)
        async with node(tmp_path, postgres_url, second) as other:
            # No poll, no sweep: it is told.
            await stack.aclose()
            ended = await reached(other.database, run.id, _COMPLETED)
    assert (ended.fence, ended.crashes) == (2, 0)


async def test_a_segment_that_ends_within_the_grace_period_is_not_given_back(tmp_path: Path) -> None:
    driver = HoldingDriver()
    async with AsyncExitStack() as stack:
        application = await stack.enter_async_context(node(tmp_path, None, driver, shutdown_grace_seconds=60.0))
        (held, waiting) = await started_by(application, 1, 2)
        await driver.has_started(2)
        application.workers.stop_claiming()
        late = await started_by(application, 1, 1)
        stopping = asyncio.create_task(stack.aclose())
        await asyncio.sleep(0)
        await driver.let_go()
        await stopping
    assert driver.started == [held, waiting]
    again = HoldingDriver()
    async with node(tmp_path, None, again, max_running=1) as application:
        assert (await reached(application.database, held, _COMPLETED)).fence == 1
        await again.has_started(1)
    assert again.started == late


async def test_a_run_given_back_as_a_poll_begins_is_executed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = HoldingDriver()
    async with node(tmp_path, None, driver) as application:
        execute = application.executor.execute

        async def execute_and_poll(run_key: int, claimed: Claimed | None = None) -> bool:
            again = await execute(run_key, claimed)
            # The poll begins after the segment's task has ended, and before anything is told of its end.
            application.workers.look_again()
            return again

        monkeypatch.setattr(application.executor, "execute", execute_and_poll)
        runs = await started_by(application, 1, 3)
        await driver.has_started(3)
        application.executor.request_release()
        await driver.let_go()
        for run in runs:
            assert (await reached(application.database, run, _COMPLETED)).fence == 2
    assert Counter(driver.started) == Counter(2 * runs)


# -------------------------------------------------------------------------------- trouble


@pytest.mark.parametrize("poll_seconds", [_POLL_SECONDS, _NEVER])
async def test_runs_that_could_not_be_claimed_while_the_database_was_away_are_claimed_once_it_is_back(
    tmp_path: Path, postgres: PostgresServer, postgres_url: str, poll_seconds: float
) -> None:
    driver = HoldingDriver()
    await driver.let_go()
    async with node(tmp_path, postgres_url, driver, poll_seconds=poll_seconds) as application:
        run = await unheard(application) if poll_seconds == _NEVER else None
        with away(postgres, postgres_url):
            # Told, though it cannot look: as by a notification that came just before.
            application.workers.ready(run or 1)
            await asyncio.sleep(1.0)
        run = run or await unheard(application)
        ended = await reached(application.database, run, _COMPLETED)
    assert ended.fence == 1
