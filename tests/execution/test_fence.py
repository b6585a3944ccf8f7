"""An executor whose lease is lost can write nothing any more, whatever its driver does, and its segment stops."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import Connection

from tests.support.databases import NOW, Place
from tests.support.gates import Gates
from tests.support.pausing_driver import need
from tests.support.runs import start
from tests.support.serving import application_for, settings_for
from tests.support.toolless import Toolless
from unpause.agents.driver import (
    CallResult,
    Completed,
    Failed,
    Journal,
    NewMessage,
    Paused,
    ProposedCall,
    Segment,
    SegmentEnd,
)
from unpause.bootstrap import Application
from unpause.domain.events import EventType
from unpause.domain.principal import Visibility
from unpause.domain.runs import EndReason, Outcome, Run, RunRef, RunStatus
from unpause.domain.transitions import Trigger
from unpause.errors import DatabaseBusy, LeaseLost
from unpause.settings import Settings
from unpause.store.runs import get_run, transition

pytestmark = pytest.mark.sql

_RESULT = CallResult(Outcome.SUCCESS, "did it", "did it")
_DONE = Completed("too late")


@dataclass
class LateDriver(Toolless):
    """Records a call, stands still while the lease is lost, and then tries one more thing."""

    attempt: Callable[[Journal], Awaitable[SegmentEnd]]
    gates: Gates = field(default_factory=lambda: Gates("middle"))
    raised: list[BaseException] = field(default_factory=list)
    agent_id: str = "late"
    agent_name: str = "late"
    model_name: str = "late-1"
    model_provider: str = "tests"

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Go as far as the middle, wait, try."""
        del segment
        calls = [ProposedCall(name, "tool", {}) for name in ("proposed", "started")]
        journal.record_turn([NewMessage("first", ())], calls)
        await journal.start_call("started", idempotent=False)
        await self.gates.pass_through("middle")
        try:
            return await self.attempt(journal)
        except BaseException as error:
            self.raised.append(error)
            raise


async def emit_and_complete(journal: Journal) -> SegmentEnd:
    await journal.emit(EventType.CONTENT_DELTA, {"content": "too late"})
    return _DONE


async def emit_and_wait(journal: Journal) -> SegmentEnd:
    """Leave it to the background task to find out that the lease is gone."""
    await journal.emit(EventType.CONTENT_DELTA, {"content": "too late"})
    await asyncio.Event().wait()
    return _DONE


async def record_and_complete(journal: Journal) -> SegmentEnd:
    journal.record_turn([NewMessage("too late", ())], [ProposedCall("another", "tool", {})])
    return _DONE


async def start_a_call(journal: Journal) -> SegmentEnd:
    await journal.start_call("proposed", idempotent=True)
    return _DONE


async def finish_a_call(journal: Journal) -> SegmentEnd:
    await journal.finish_call("started", _RESULT)
    return _DONE


async def settle_a_call(journal: Journal) -> SegmentEnd:
    journal.settle_call("proposed", _RESULT)
    return _DONE


async def defer_a_call(journal: Journal) -> SegmentEnd:
    await journal.defer_call("started")
    return _DONE


async def complete(journal: Journal) -> SegmentEnd:
    del journal
    return _DONE


async def fail(journal: Journal) -> SegmentEnd:
    del journal
    return Failed(EndReason.MODEL_ERROR, "too late")


async def pause(journal: Journal) -> SegmentEnd:
    del journal
    return Paused((need("proposed"),))


async def break_down(journal: Journal) -> SegmentEnd:
    del journal
    raise LookupError("too late")


async def wait_until_cancelled(journal: Journal) -> SegmentEnd:
    del journal
    await asyncio.Event().wait()
    return _DONE


ATTEMPTS = [
    emit_and_complete,
    emit_and_wait,
    record_and_complete,
    start_a_call,
    finish_a_call,
    settle_a_call,
    defer_a_call,
    complete,
    fail,
    pause,
    break_down,
]


def taken_over(run: Run) -> Callable[[Connection], None]:
    """Return what another node does with a run whose lease is stale."""

    def unit(connection: Connection) -> None:
        held = get_run(connection, Visibility(1), RunRef(id=run.id))
        transition(connection, run.id, Trigger.RELEASE, fence=held.fence, changes={"updated_at": NOW})
        transition(connection, run.id, Trigger.CLAIM, changes={"updated_at": NOW})

    return unit


def cancelled(run: Run) -> Callable[[Connection], None]:
    """Return what somebody does who cancels the run."""

    def unit(connection: Connection) -> None:
        transition(connection, run.id, Trigger.CANCEL, changes={"updated_at": NOW})

    return unit


async def lose(settings: Settings, driver: LateDriver, how: Callable[[Run], Callable[[Connection], None]]) -> Run:
    """Execute a run, take it away in the middle, let the driver go on, and check that no row changes any more."""
    application = application_for(settings, [driver])
    async with application.database.opened():
        run = await start(application)
        segment = asyncio.create_task(application.executor.execute(run.id))
        await driver.gates.reached("middle")
        await application.database.write(how(run))
        before = Place(settings.database_url).lasting()
        driver.gates.open("middle")
        await segment
        assert Place(settings.database_url).lasting() == before
        return await application.database.read(lambda connection: get_run(connection, Visibility(1), RunRef(id=run.id)))


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_a_run_that_another_node_took_over_stays_as_that_node_has_it(
    tmp_path: Path, database_url: str, attempt: Callable[[Journal], Awaitable[SegmentEnd]]
) -> None:
    run = await lose(settings_for(tmp_path, database_url=database_url), LateDriver(attempt), taken_over)
    assert (run.status, run.fence) == (RunStatus.RUNNING, 2)


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_a_run_that_was_cancelled_stays_cancelled(
    tmp_path: Path, attempt: Callable[[Journal], Awaitable[SegmentEnd]]
) -> None:
    assert (await lose(settings_for(tmp_path), LateDriver(attempt), cancelled)).status is RunStatus.CANCELLED


@pytest.mark.parametrize("attempt", [start_a_call, finish_a_call, defer_a_call])
async def test_the_driver_hears_of_it_before_it_acts(
    tmp_path: Path, attempt: Callable[[Journal], Awaitable[SegmentEnd]]
) -> None:
    driver = LateDriver(attempt)
    await lose(settings_for(tmp_path), driver, taken_over)
    assert [type(error) for error in driver.raised] == [LeaseLost]


async def test_a_driver_that_only_waits_is_stopped(tmp_path: Path) -> None:
    driver = LateDriver(emit_and_wait)
    await lose(settings_for(tmp_path), driver, taken_over)
    assert [type(error) for error in driver.raised] == [asyncio.CancelledError]


async def test_a_driver_that_fails_as_its_segment_is_stopped_leaves_no_error_that_nobody_retrieves(
    tmp_path: Path,
) -> None:
    unheard: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context["message"]))
    driver = LateDriver(break_down)
    application = application_for(settings_for(tmp_path), [driver])
    async with application.database.opened():
        run = await start(application)
        segment = asyncio.create_task(application.executor.execute(run.id))
        await driver.gates.reached("middle")
        driver.gates.open("middle")
        segment.cancel()
        await asyncio.wait({segment})
    del segment
    gc.collect()
    assert [type(error) for error in driver.raised] == [LookupError]
    driver.raised.clear()
    gc.collect()
    assert unheard == []


async def test_stopping_a_segment_that_lost_its_lease_changes_nothing(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    driver = LateDriver(wait_until_cancelled)
    application = application_for(settings, [driver])
    async with application.database.opened():
        run = await start(application)
        segment = asyncio.create_task(application.executor.execute(run.id))
        await driver.gates.reached("middle")
        await application.database.write(taken_over(run))
        before = Place(settings.database_url).lasting()
        segment.cancel()
        with pytest.raises(asyncio.CancelledError):
            await segment
        assert Place(settings.database_url).lasting() == before


async def test_a_run_is_executed_by_one_of_many_that_want_it(tmp_path: Path, database_url: str) -> None:
    claimed: list[int] = []

    @dataclass
    class Counting(LateDriver):
        async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
            claimed.append(segment.run.fence)
            return await self.attempt(journal)

    application: Application = application_for(settings_for(tmp_path, database_url=database_url), [Counting(complete)])
    async with application.database.opened():
        run = await start(application)
        requested = (application.executor.execute(run.id) for _ in range(20))
        for result in await asyncio.gather(*requested, return_exceptions=True):
            # On a slow machine some find it locked by another's claim for too long.
            assert result is False or isinstance(result, DatabaseBusy)
        await application.executor.execute(run.id)
        await application.executor.execute(4711)
    assert claimed == [1]
