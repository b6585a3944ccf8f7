"""What happens to a run that the database does not let an executor claim: it is tried again, later and later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import update

from tests.support.runs import ADA, answer, follow, look, start
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import running
from unpause.bootstrap import Application
from unpause.clock import delays
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import Run, RunRef, RunStatus
from unpause.errors import StorageError
from unpause.store.engine.database import Connection
from unpause.store.tables import requirements

T = TypeVar("T")

# Shorter waits are no retries: the recorder collects events that long.
_SHORTEST_RETRY = 0.5

# Where the runs of an organization are counted, every run is claimed from the queue.
_QUEUED: dict[str, Any] = {"max_running_per_organization": 100}


class DiskFull(StorageError):
    """What the database of these tests says."""


class Timers:
    """The loop's timers: retries of claims are noted and come at once, or never; all others as ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, retries_come: bool = True) -> None:
        self._retries_come = retries_come
        self.waited: list[float] = []
        self._loop = asyncio.get_running_loop()
        self._usual = self._loop.call_later
        monkeypatch.setattr(self._loop, "call_later", self._call_later)

    def _call_later(self, delay: float, callback: Callable[..., object], *args: Any, **more: Any) -> object:  # noqa: ANN401
        if delay < _SHORTEST_RETRY or getattr(callback, "__name__", "") != "_try_again":
            return self._usual(delay, callback, *args, **more)
        self.waited.append(delay)
        return self._loop.call_soon(callback, *args, **more) if self._retries_come else None


class FailingClaims:
    """Makes the claims of some runs fail: all other writes go through."""

    def __init__(self, application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failures: dict[int, int] = {}
        self._claim = application.executor._claim  # noqa: SLF001 - the one write that is to fail
        self._write = application.database.write
        self._application = application
        monkeypatch.setattr(application.executor, "_claim", self._claim_or_fail)

    async def _claim_or_fail(self, run_key: int) -> object:
        if self.failures.get(run_key, 0) == 0:
            return await self._claim(run_key)
        self.failures[run_key] -= 1

        def unit(connection: Connection) -> None:
            del connection
            raise DiskFull

        await self._write(unit)
        raise AssertionError


def test_the_waits_double_from_half_a_second_to_half_a_minute() -> None:
    assert list(islice(delays(), 9)) == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


async def started(application: Application, failing: FailingClaims, failures: int) -> Run:
    """Make a run whose first claims fail."""
    failing.failures[len(failing.failures) + 1] = failures
    run = await start(application)
    assert run.id in failing.failures
    return run


async def test_a_run_that_could_not_be_claimed_is_tried_again_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = Timers(monkeypatch)
    async with running(tmp_path, drivers=[ScriptedDriver()], **_QUEUED) as application:
        run = await started(application, FailingClaims(application, monkeypatch), 8)
        await follow(application, run)
        view = await look(application, run)
    assert (view.run.status, view.run.fence) == (RunStatus.PAUSED, 1)
    assert timers.waited == [0.5, 1, 2, 4, 8, 16, 30, 30]


async def test_after_a_success_the_waits_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timers = Timers(monkeypatch)
    async with running(tmp_path, drivers=[ScriptedDriver()], **_QUEUED) as application:
        failing = FailingClaims(application, monkeypatch)
        for _ in range(2):
            await follow(application, await started(application, failing, 2))
        run = await started(application, failing, 3)
        await follow(application, run)
        failing.failures[run.id] = 1
        application.workers.ready(run.id)
        beside = await started(application, failing, 0)
        await follow(application, beside)
    assert timers.waited == [0.5, 1, 0.5, 1, 0.5, 1, 2, 0.5]


async def test_a_run_of_which_something_cannot_be_read_ends_after_a_few_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = Timers(monkeypatch)
    async with running(tmp_path, drivers=[ScriptedDriver()], **_QUEUED) as application:
        run = await start(application)
        await follow(application, run)
        call_id = (await look(application, run)).tool_calls[0].tool_call_id
        claim = application.executor._claim  # noqa: SLF001 - the row is spoiled between continue and claim

        def spoil(connection: Connection) -> None:
            connection.execute(update(requirements).values(fields="no list"))

        async def spoil_and_claim(run_key: int) -> object:
            await application.database.write(spoil)
            return await claim(run_key)

        monkeypatch.setattr(application.executor, "_claim", spoil_and_claim)
        continued = await answer(application, run, ToolAnswer(call_id, confirmed=True))
        events = await follow(application, run, continued.after)
        ended = await application.service.get_run(ADA, RunRef(id=run.id))
    assert events[-1].payload["reason"] == "agent_error"
    assert (ended.status, ended.content) == (RunStatus.ERROR, events[-1].payload["content"])
    assert "cannot read what is stored of it" in (ended.content or "")
    assert timers.waited == [0.5, 1, 2, 4]


async def test_a_run_that_waits_for_another_try_holds_no_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timers = Timers(monkeypatch, retries_come=False)
    async with running(tmp_path, drivers=[ScriptedDriver()], max_running=1, **_QUEUED) as application:
        failing = FailingClaims(application, monkeypatch)
        stuck = await started(application, failing, 1)
        beside = await started(application, failing, 0)
        await follow(application, beside)
        # As an echo of its own does, when other processes are told of it.
        application.workers.ready(stuck.id)
        await follow(application, await started(application, failing, 0))
        # Its time never comes in this test, not by a poll either; and the stop does not wait for it.
        assert (await look(application, stuck)).run.status is RunStatus.PENDING
        assert (failing.failures[stuck.id], timers.waited) == (0, [0.5])
        assert (await look(application, beside)).run.status is RunStatus.PAUSED
    async with running(tmp_path, drivers=[ScriptedDriver()], **_QUEUED) as application:
        await follow(application, stuck)
        assert (await look(application, stuck)).run.status is RunStatus.PAUSED
