"""A process that stops lets its runs go between two calls: another goes on, and nothing runs twice or is in doubt."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from itertools import repeat
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.databases import Place, new_run
from tests.support.gated_worker import GatedWorker
from tests.support.reaching import reached, until
from tests.support.runs import ADA, answer, finish, follow, look, open_requirements, start
from unpause.bootstrap import Application
from unpause.domain.events import EventType
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import CallStatus, Run, RunRef, RunStatus
from unpause.errors import DatabaseBusy, DatabaseFull, DatabaseUnavailable, UnpauseError
from unpause.execution import executor
from unpause.store.engine.database import Connection

T = TypeVar("T")


async def kinds_of(application: Application, run: Run) -> list[EventType]:
    """Return the types of the run's events."""
    return [event.type for event in await follow(application, run)]


@pytest.mark.parametrize("place", ["think", "note"])
async def test_a_run_released_within_a_call_goes_on_after_it(tmp_path: Path, place: str) -> None:
    worker = GatedWorker(tmp_path, place)
    async with worker.opened() as application:
        run = await start(application, "note")
        await worker.gates.reached(place)
        application.executor.request_release()
        worker.gates.open(place)
        kinds = await kinds_of(application, run)
        done = await look(application, run)
    assert (done.run.status, done.run.fence, done.run.crashes) == (RunStatus.COMPLETED, 2, 0)
    assert (done.run.content, worker.executed) == ("note is done", ["note"])
    assert not {EventType.RUN_PAUSED, EventType.RUN_CONTINUED} & set(kinds)
    assert not any(call.in_doubt for call in done.tool_calls)


async def test_a_stop_lets_a_call_end_and_the_next_server_makes_the_one_after_it(tmp_path: Path) -> None:
    worker = GatedWorker(tmp_path, "note", "answer")
    async with worker.opened() as application:
        run = await start(application, "note")
        await worker.gates.reached("note")
        application.workers.stop_claiming()
        application.executor.request_release()
        worker.gates.open("note")
    async with worker.opened() as application:
        left = await look(application, run)
        assert [call.status for call in left.tool_calls] == [CallStatus.FINISHED]
        worker.gates.open("answer")
        await follow(application, run)
        done = await look(application, run)
    assert (done.run.status, worker.executed) == (RunStatus.COMPLETED, ["note"])


async def test_a_run_that_comes_to_wait_for_a_human_waits_and_is_not_given_away(tmp_path: Path) -> None:
    worker = GatedWorker(tmp_path, "think")
    async with worker.opened() as application:
        run = await start(application, "charge")
        await worker.gates.reached("think")
        application.executor.request_release()
        worker.gates.open("think")
        await follow(application, run)
        paused = await look(application, run)
        assert (paused.run.status, paused.run.fence) == (RunStatus.PAUSED, 1)
        (requested,) = open_requirements(paused)
        done = await finish(
            application, run, await answer(application, run, ToolAnswer(requested.tool_call_id, confirmed=True))
        )
    assert (done.run.status, worker.executed) == (RunStatus.COMPLETED, ["charge"])


async def test_a_pause_that_somebody_wants_is_a_pause_at_a_stop_too(tmp_path: Path) -> None:
    worker = GatedWorker(tmp_path, "think")
    async with worker.opened() as application:
        run = await start(application, "note")
        await worker.gates.reached("think")
        await application.service.pause_run(ADA, RunRef(id=run.id))
        application.executor.request_release()
        worker.gates.open("think")
        await follow(application, run)
        assert (await look(application, run)).run.status is RunStatus.PAUSED


async def test_a_call_whose_start_was_just_being_written_at_a_stop_has_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = GatedWorker(tmp_path)
    is_written = asyncio.Event()
    async with worker.opened() as application:
        append = application.database.append

        async def append_and_dawdle(unit: Callable[[Connection], T]) -> T:
            written = await append(unit)
            view = await look(application, run)
            if any(call.status is CallStatus.STARTED for call in view.tool_calls):
                is_written.set()
                await asyncio.Event().wait()
            return written

        monkeypatch.setattr(application.database, "append", append_and_dawdle)
        run = await start(application, "note")
        async with asyncio.timeout(60):
            await is_written.wait()
    assert worker.executed == []
    async with worker.opened() as application:
        await follow(application, run)
        done = await look(application, run)
    assert (done.run.status, worker.executed) == (RunStatus.COMPLETED, ["note"])


@pytest.mark.parametrize("grace", [0.0, 2.0])
async def test_a_run_claimed_just_as_the_process_stops_is_given_back(tmp_path: Path, grace: float) -> None:
    has_begun, may_end, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()

    def hold(_: Connection) -> None:
        loop.call_soon_threadsafe(has_begun.set)
        may_end.wait()

    # Within a grace period the claim comes in its second half, in which segments end before their next call.
    worker = GatedWorker(tmp_path)
    async with worker.opened(shutdown_grace_seconds=grace) as application:
        database = application.database
        run = await database.write(lambda connection: new_run(connection, agent_id="worker"))
        holding = asyncio.create_task(database.write(hold))
        await has_begun.wait()
        # Its claim is the next transaction, which the stop does not wait for.
        application.workers.ready(run.id)
        await until(lambda: application.workers._segments)  # noqa: SLF001
        loop.call_later(0.1 + 0.6 * grace, may_end.set)
    await holding
    (row,) = Place.in_folder(tmp_path).dump()["runs"]
    assert (row["status"], row["fence"], row["crashes"], worker.executed) == ("PENDING", 1, 0, [])


async def test_a_run_given_back_while_the_database_is_away_is_given_back_once_it_is_there_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "delays", lambda: repeat(0.01))
    outage: deque[UnpauseError] = deque()
    worker = GatedWorker(tmp_path, "note")
    async with worker.opened() as application:
        write = application.database.write

        async def write_unless_away(
            unit: Callable[[Connection], T], *then: Callable[[T], None], waits: bool = True
        ) -> T:
            if outage:
                raise outage.popleft()
            return await write(unit, *then, waits=waits)

        monkeypatch.setattr(application.database, "write", write_unless_away)
        run = await start(application, "note")
        await worker.gates.reached("note")
        application.executor.request_release()
        outage += [DatabaseUnavailable(), DatabaseBusy(), DatabaseUnavailable(), DatabaseFull()]
        worker.gates.open("note")
        done = await reached(application.database, run.id, RunStatus.COMPLETED)
        view = await look(application, run)
    assert (done.fence, done.crashes, worker.executed) == (2, 0, ["note"])
    # What was to be written with the release is not lost with its first try.
    assert [message.position for message in view.messages] == list(range(len(view.messages)))
    assert [call.status for call in view.tool_calls] == [CallStatus.FINISHED]
