"""A part of the background work that dies: the process ends, after giving its runs back, and says so meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gated_worker import GatedWorker
from tests.support.runs import follow, look, start
from tests.support.serving import ADDRESS
from unpause.api.app import create_app
from unpause.bootstrap import Application
from unpause.domain.runs import Run, RunStatus
from unpause.errors import ShuttingDown
from unpause.execution.heartbeat import Heartbeat
from unpause.execution.workers import Workers
from unpause.store.engine.group_commit import GroupCommit
from unpause.tasks import PartDied, VitalTask, background_tasks

EVERYWHERE = ["workers", "sweeper Expiry", "webhook deliverer"]
ON_POSTGRES = [
    *("database appender 1", "database straggler", "heartbeat"),
    *("bus listener", "bus notifier", "bus reader", "bus poll"),
]


def end_part(name: str) -> None:
    """End a part as nothing should: without a word."""
    (part,) = [task for task in asyncio.all_tasks() if task.get_name() == name]
    part.cancel()


async def health_of(application: Application) -> tuple[int, int]:
    transport = httpx.ASGITransport(app=create_app(application))
    async with httpx.AsyncClient(transport=transport, base_url=ADDRESS) as client:
        return (await client.get("/health")).status_code, (await client.get("/ready")).status_code


async def serve_until_it_dies(worker: GatedWorker, part: str | None = None) -> None:
    async with worker.opened():
        if part is not None:
            end_part(part)
        await asyncio.Event().wait()


@pytest.mark.parametrize("part", [*EVERYWHERE, *ON_POSTGRES])
@pytest.mark.sql
async def test_a_part_that_dies_ends_the_process_and_its_runs_are_given_back(
    tmp_path: Path, database_url: str, part: str
) -> None:
    if part in ON_POSTGRES and database_url.startswith("sqlite"):
        pytest.skip("there is no such part")
    worker = GatedWorker(tmp_path, "think", database_url=database_url)
    seen: list[tuple[Application, Run]] = []

    async def serve() -> None:
        async with worker.opened() as application:
            seen.append((application, await start(application, "note")))
            await worker.gates.reached("think")
            assert await health_of(application) == (200, 200)
            end_part(part)
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as raised:
        await serve()
    assert raised.group_contains(PartDied)
    (left, run) = seen[0]
    assert await health_of(left) == (503, 503)
    worker.gates.open("think")
    async with worker.opened() as application:
        await follow(application, run)
        done = await look(application, run)
    assert (done.run.status, worker.executed) == (RunStatus.COMPLETED, ["note"])


async def test_a_thread_that_dies_is_noticed_too(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Heartbeat, "_beat", lambda *_: None)
    with pytest.raises(ExceptionGroup) as raised:
        await serve_until_it_dies(GatedWorker(tmp_path, database_url=postgres_url))
    assert raised.group_contains(PartDied)


async def test_a_part_that_raises_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise LookupError("broken")

    monkeypatch.setattr(Workers, "_feed", broken)
    with pytest.raises(ExceptionGroup) as raised:
        await serve_until_it_dies(GatedWorker(tmp_path))
    assert raised.group_contains(LookupError)


async def test_a_part_that_just_ends_has_died() -> None:
    async def short() -> None:
        await asyncio.sleep(0)

    with pytest.RaisesGroup(PartDied):
        async with background_tasks() as tasks:
            VitalTask(tasks, short(), "short")
            await asyncio.Event().wait()


async def test_who_waits_for_a_writer_that_died_does_not_wait_for_ever() -> None:
    class Stuck:
        async def run(self, work: object, since: float | None = None) -> Any:  # noqa: ANN401 - a lane's
            del work, since
            await asyncio.Event().wait()

    batches = GroupCommit()
    writing = asyncio.create_task(batches.write_all(Stuck()))
    writes = [asyncio.create_task(batches.add(lambda _: None)) for _ in range(2)]
    await asyncio.sleep(0)
    writes.append(asyncio.create_task(batches.add(lambda _: None)))
    await asyncio.sleep(0)
    writing.cancel()
    answers = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(answer) for answer in answers] == [ShuttingDown] * 3
    with pytest.raises(ShuttingDown):
        await batches.add(lambda _: None)
