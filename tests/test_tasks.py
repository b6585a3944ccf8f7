"""What comes out of a block with tasks beside it: its own exception, unless the tasks have something to say too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.support.serving import application_for, running, settings_for
from unpause.execution.sweeper import sweeping
from unpause.tasks import (
    BackgroundTasks,
    PartDied,
    Pulse,
    SingleTask,
    TaskScope,
    UninterruptedTasks,
    VitalTask,
    background_tasks,
)


async def fail_with(error: Exception) -> None:
    raise error


async def wait_for_ever() -> None:
    await asyncio.Event().wait()


async def fail_when_cancelled() -> None:
    try:
        await wait_for_ever()
    except asyncio.CancelledError:
        raise LookupError from None


def working(folder: Path) -> AbstractAsyncContextManager[None]:
    return application_for(settings_for(folder), []).workers.working()


def swept(folder: Path) -> AbstractAsyncContextManager[None]:
    return sweeping([application_for(settings_for(folder), []).expiry], 3600, Pulse())


def served(folder: Path) -> AbstractAsyncContextManager[object]:
    return running(folder)


@pytest.mark.parametrize("block", [working, swept, served])
@pytest.mark.parametrize("error", [LookupError("mine"), ExceptionGroup("mine", [ValueError()])])
async def test_a_block_raises_its_own_exception(
    tmp_path: Path, block: Callable[[Path], AbstractAsyncContextManager[object]], error: Exception
) -> None:
    before = asyncio.all_tasks()
    cause = OSError()
    with pytest.raises(type(error)) as raised:
        async with block(tmp_path):
            raise error from cause
    assert raised.value is error
    assert error.__cause__ is cause
    assert asyncio.all_tasks() == before


async def test_a_task_that_fails_ends_the_block_and_comes_out_in_a_group() -> None:
    error = LookupError("the task's")
    with pytest.RaisesGroup(LookupError) as raised:
        async with background_tasks() as tasks:
            tasks.create_task(fail_with(error))
            await wait_for_ever()
    assert raised.value.exceptions == (error,)


async def test_nothing_is_lost_when_both_fail() -> None:
    with pytest.RaisesGroup(ValueError, LookupError):
        async with background_tasks() as tasks:
            tasks.create_task(fail_when_cancelled())
            await asyncio.sleep(0)
            raise ValueError


async def test_a_block_that_fails_does_not_wait_for_its_tasks() -> None:
    async def block() -> None:
        async with background_tasks() as tasks:
            tasks.create_task(wait_for_ever())
            await asyncio.sleep(0)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await block()


async def test_a_cancelled_block_is_cancelled() -> None:
    inside = asyncio.Event()

    async def block() -> None:
        async with background_tasks():
            inside.set()
            await wait_for_ever()

    task = asyncio.create_task(block())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_tasks_of_a_scope_end_with_its_block_and_what_they_raise_is_logged(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with TaskScope() as tasks:
        silent, failing = tasks.start(wait_for_ever(), "silent"), tasks.start(fail_when_cancelled(), "failing")
        await asyncio.sleep(0)
    assert silent.cancelled()
    assert isinstance(failing.exception(), LookupError)
    assert "failing" in capsys.readouterr().out


async def test_a_scope_waits_for_a_stubborn_task_no_longer_than_its_patience(
    capsys: pytest.CaptureFixture[str],
) -> None:
    release = asyncio.Event()

    async def stay() -> None:
        try:
            await wait_for_ever()
        except asyncio.CancelledError:
            await release.wait()

    async with TaskScope(patience=0.01) as tasks:
        staying = tasks.start(stay(), "stubborn")
        await asyncio.sleep(0)
    assert not staying.done()
    assert "stubborn" in capsys.readouterr().out
    release.set()
    await staying


async def test_work_that_lost_its_caller_is_waited_for_by_its_owner() -> None:
    release, done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await release.wait()
        done.set()

    owner = UninterruptedTasks()
    caller = asyncio.create_task(owner.run(work(), "transaction"))
    for _ in range(2):
        await asyncio.sleep(0)
        caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not done.is_set()
    release.set()
    await owner.finish()
    assert done.is_set()


async def test_a_single_task_runs_once_at_a_time_and_its_failure_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    started: list[int] = []
    gate = asyncio.Event()

    async def work() -> None:
        started.append(len(started))
        await gate.wait()
        raise LookupError

    single = SingleTask("the renewal")
    await single.wait()
    single.start(work)
    single.start(work)
    await asyncio.sleep(0)
    gate.set()
    await single.wait()
    assert started == [0]
    assert "the renewal" in capsys.readouterr().out
    single.start(work)
    await single.wait()
    assert started == [0, 1]


async def test_a_vital_task_that_ends_cancels_the_block() -> None:
    with pytest.RaisesGroup(PartDied):
        async with background_tasks() as tasks:
            VitalTask(tasks, asyncio.sleep(0), "heart")
            await wait_for_ever()


async def test_a_vital_task_that_is_cancelled_with_its_group_is_no_reason_of_its_own() -> None:
    async def block(entered: asyncio.Event) -> None:
        async with background_tasks() as tasks:
            VitalTask(tasks, wait_for_ever(), "heart")
            entered.set()
            await wait_for_ever()

    entered = asyncio.Event()
    task = asyncio.create_task(block(entered))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.RaisesGroup(LookupError):
        async with BackgroundTasks() as tasks:
            VitalTask(tasks, wait_for_ever(), "heart")
            tasks.create_task(fail_with(LookupError()))
            await wait_for_ever()
