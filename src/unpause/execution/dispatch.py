"""Executes runs in the server's own process: the embedded way, for SQLite."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog

from unpause.domain.runs import RunStatus
from unpause.domain.transitions import Trigger
from unpause.execution.background import background_tasks
from unpause.execution.retrying import delays
from unpause.store.runs import list_unfinished, transition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from unpause.clock import Clock
    from unpause.execution.executor import Executor
    from unpause.store.database import Connection, Database

_log = structlog.get_logger(__name__)


class InProcessDispatcher:
    """Implements ``runs.dispatcher.Dispatcher`` with tasks in this process."""

    def __init__(self, *, max_running: int, grace_seconds: float) -> None:
        self._ready: asyncio.Queue[int] = asyncio.Queue()
        self._slots = asyncio.Semaphore(max_running)
        self._grace_seconds = grace_seconds
        self._segments: dict[int, asyncio.Task[None]] = {}
        self._executor: Executor | None = None
        self._delays: dict[int, Iterator[float]] = {}

    def enqueue(self, connection: Connection, run_key: int, fence: int) -> None:
        """Do nothing: the run's own row says PENDING, and this process reads those at its start."""

    def committed(self, run_key: int) -> None:
        """Execute the run as soon as a slot is free."""
        self._ready.put_nowait(run_key)

    def pause_requested(self, run_key: int) -> None:
        """Tell the run's segment, if it runs here."""
        if self._executor is not None:
            self._executor.request_pause(run_key)

    def cancelled(self, run_key: int) -> None:
        """Stop the run's segment at its next await."""
        segment = self._segments.get(run_key)
        if segment is not None:
            segment.cancel()

    @asynccontextmanager
    async def working(self, executor: Executor) -> AsyncIterator[None]:
        """Execute what becomes ready during the block; at its end give running segments a grace period."""
        self._executor = executor
        async with background_tasks() as tasks:
            feeding = tasks.create_task(self._feed(executor, tasks), name="dispatcher")
            try:
                yield
            finally:
                feeding.cancel()
                await self._stop()

    async def _feed(self, executor: Executor, tasks: asyncio.TaskGroup) -> None:
        while True:
            run_key = await self._ready.get()
            await self._slots.acquire()
            segment = tasks.create_task(self._execute(executor, run_key), name=f"segment of run {run_key}")
            self._segments[run_key] = segment
            # Not in the task itself: one that is cancelled before its first step never gets there.
            segment.add_done_callback(partial(self._finished, run_key))

    async def _execute(self, executor: Executor, run_key: int) -> None:
        try:
            again = await executor.execute(run_key)
        except Exception:  # noqa: BLE001 - the boundary around the executor: one run's trouble must not stop the others
            delay = next(self._delays.setdefault(run_key, delays()))
            _log.exception("run could not be claimed; it is tried again", run_key=run_key, seconds=delay)
            # A timer and not a task that sleeps: the run holds no slot meanwhile, and a stop need not wait for it.
            asyncio.get_running_loop().call_later(delay, self.committed, run_key)
            return
        self._delays.pop(run_key, None)
        if again:
            self.committed(run_key)

    def _finished(self, run_key: int, segment: asyncio.Task[None]) -> None:
        self._slots.release()
        # A run that pauses and is continued at once may have its next segment here already.
        if self._segments.get(run_key) is segment:
            del self._segments[run_key]

    async def _stop(self) -> None:
        if self._segments:
            await asyncio.wait(self._segments.values(), timeout=self._grace_seconds)
        for segment in list(self._segments.values()):
            segment.cancel()


async def take_back_runs(database: Database, dispatcher: InProcessDispatcher, clock: Clock) -> int:
    """Make the runs of the process that ended before this one PENDING, and queue all that is; return how many.

    Only for a database that one process owns: there, whatever is RUNNING at the start has nobody executing it.
    """
    now = clock.now()

    def unit(connection: Connection) -> list[int]:
        changes = {"updated_at": now, "lease_expires_at": None}
        for run in list_unfinished(connection, RunStatus.RUNNING):
            transition(connection, run.id, Trigger.RELEASE, fence=run.fence, changes=changes)
        return [run.id for run in list_unfinished(connection, RunStatus.PENDING)]

    ready = await database.write(unit)
    for run_key in ready:
        dispatcher.committed(run_key)
    return len(ready)
