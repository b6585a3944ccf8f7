"""Somebody gives a request up while it is written: whoever waits for what it changed learns of that all the same."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.holding_driver import HoldingDriver
from tests.support.reaching import reached, until
from tests.support.runs import ADA, answer, follow, start
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import running
from unpause.agents.driver import AgentDriver
from unpause.bootstrap import Application
from unpause.domain.events import EventType
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import RunRef, RunStatus
from unpause.services.commands import CreateRun
from unpause.store.engine.database import Connection

_NEVER = 3600.0
# Where the runs of an organization are counted, every run is claimed from the queue.
_QUEUED = 100


@asynccontextmanager
async def server(folder: Path, driver: AgentDriver, per_organization: int | None = None) -> AsyncIterator[Application]:
    """Run a server on SQLite that finds nothing by itself."""
    settings: dict[str, Any] = {"poll_seconds": _NEVER, "sweep_seconds": _NEVER, "shutdown_grace_seconds": 0.0}
    settings["max_running_per_organization"] = per_organization
    async with running(folder, drivers=[driver], **settings) as application:
        await until(lambda: not application.workers._is_behind)  # noqa: SLF001 - before, requests claim nothing
        yield application


async def given_up(application: Application, request: Coroutine[Any, Any, object], *, times: int) -> None:
    """Make the request, and cancel it so often while it waits for the transaction that it is written in."""
    has_begun, may_end, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()

    def hold(_: Connection) -> None:
        loop.call_soon_threadsafe(has_begun.set)
        may_end.wait()

    holding = asyncio.create_task(application.database.write(hold))
    await has_begun.wait()
    requesting = asyncio.create_task(request)
    for _ in range(5):
        await asyncio.sleep(0)
    for _ in range(times):
        requesting.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert requesting.done() == (times > 1)
    may_end.set()
    await holding
    with pytest.raises(asyncio.CancelledError):
        await requesting


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("per_organization", [None, _QUEUED])
async def test_a_run_whose_request_was_given_up_is_executed(
    tmp_path: Path, times: int, per_organization: int | None
) -> None:
    driver = HoldingDriver()
    await driver.let_go()
    async with server(tmp_path, driver, per_organization) as application:
        request = application.service.create_run(ADA, CreateRun("holding", "hello"))
        await given_up(application, request, times=times)
        await reached(application.database, 1, RunStatus.COMPLETED)
        assert driver.started == [1]


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("per_organization", [None, _QUEUED])
async def test_a_run_whose_answer_was_given_up_goes_on_before_all_who_follow_it(
    tmp_path: Path, times: int, per_organization: int | None
) -> None:
    async with server(tmp_path, ScriptedDriver(), per_organization) as application:
        run = await start(application)
        await follow(application, run)
        paused = await reached(application.database, run.id, RunStatus.PAUSED)
        following = asyncio.create_task(follow(application, run, paused.last_sequence))
        await asyncio.sleep(0)
        call = ToolAnswer(f"call-{run.id}", confirmed=True)
        await given_up(application, answer(application, run, call), times=times)
        events = await following
        assert (events[0].type, events[-1].type) == (EventType.RUN_CONTINUED, EventType.RUN_COMPLETED)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_run_is_cancelled_for_all_who_wait_for_it_though_who_asked_for_that_is_gone(
    tmp_path: Path, times: int
) -> None:
    driver = HoldingDriver()
    async with server(tmp_path, driver) as application:
        run = await start(application)
        await driver.has_started(1)
        following = asyncio.create_task(follow(application, run))
        await given_up(application, application.service.cancel_run(ADA, RunRef(id=run.id)), times=times)
        assert (await following)[-1].type is EventType.RUN_CANCELLED
        await until(lambda: driver.running[1] == 0)


@pytest.mark.parametrize("times", [1, 2])
async def test_a_run_is_asked_to_pause_though_who_asked_for_that_is_gone(tmp_path: Path, times: int) -> None:
    driver = HoldingDriver()
    async with server(tmp_path, driver) as application:
        run = await start(application)
        await driver.has_started(1)
        # What the driver said is written, so no later commit of the segment tells it.
        await until(lambda: not application.executor._journals[run.id]._grown.is_set())  # noqa: SLF001
        await given_up(application, application.service.pause_run(ADA, RunRef(id=run.id)), times=times)
        await until(lambda: application.executor._journals[run.id].stop_requested)  # noqa: SLF001
