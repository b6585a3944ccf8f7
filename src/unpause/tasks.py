"""Tasks that run beside a block and end with it; where one must not end earlier, its end is the block's."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

_log = structlog.get_logger(__name__)


class PartDied(Exception):
    """A part of a process's background work has ended that should have gone on."""


class VitalTask:
    """A task of the group that has to go on: where it ends before it is told to, the group's block is cancelled.

    That is so however it ends, by itself and by a cancellation of whoever it is as well. The group raises why.
    """

    def __init__(self, tasks: asyncio.TaskGroup, work: Coroutine[Any, Any, object], name: str) -> None:
        self._tasks = tasks
        self._name = name
        self._may_end = False
        self._task = tasks.create_task(work, name=name)
        self._task.add_done_callback(self._ended)

    def stop(self) -> None:
        """Cancel the work: the block ends."""
        self._may_end = True
        self._task.cancel()

    @staticmethod
    async def finish(*parts: VitalTask) -> None:
        """Wait for work that was told to end by itself."""
        for part in parts:
            part._may_end = True  # noqa: SLF001 - its own
        await asyncio.wait([part._task for part in parts])  # noqa: SLF001

    def _ended(self, task: asyncio.Task[object]) -> None:
        if self._may_end or (task.cancelled() and getattr(self._tasks, "_aborting", False)):
            # Or another of the group has ended it with all the rest.
            return
        error = None if task.cancelled() else task.exception()
        _log.critical("a part of the background work died: the process ends", part=self._name, exc_info=error)
        if not isinstance(error, Exception):
            # The group takes note of exceptions only.
            failing = _fail(self._name)
            try:
                self._tasks.create_task(failing, name=f"end of {self._name}")
            except RuntimeError:
                # It is about to end anyway.
                failing.close()


async def _fail(name: str) -> None:
    raise PartDied(f"{name} has ended")


@asynccontextmanager
async def background_tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """Yield a task group for the length of the block.

    What the block raises comes out as itself; in an ExceptionGroup only when one of the tasks failed too.
    """
    raised: list[Exception] = []
    try:
        async with asyncio.TaskGroup() as tasks:
            try:
                yield tasks
            except Exception as error:
                raised.append(error)
                raise
    except BaseExceptionGroup as group:
        if list(group.exceptions) != raised:
            raise
    if raised:
        raise raised[0]
