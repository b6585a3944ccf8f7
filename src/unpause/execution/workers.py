"""Executes runs in this process: those that are announced, and those that a poll finds while a slot is free.

The table of runs is the queue: to be PENDING is to be enqueued, and a claim is the guarded change to RUNNING. So
nothing has to be kept in step with it, and a poll finds what was not announced.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import structlog

from unpause.clock import delays
from unpause.errors import DatabaseBusy, DatabaseUnavailable, StorageError, UnpauseError
from unpause.services.claims import Slot
from unpause.store.run_queue import has_pending, list_ready
from unpause.streaming.bus import Signal
from unpause.tasks import VitalTask, background_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from unpause.execution.executor import Executor
    from unpause.services.claims import Claimed
    from unpause.store.engine.database import Database
    from unpause.streaming.bus import Bus

_log = structlog.get_logger(__name__)

# Tries to claim a run that cannot be read, within some seconds, before it is ended.
_MAX_TRIES = 5

# While signals arrive a poll finds only what its process did not announce before it died.
_POLLS_LEFT_OUT = 4

# Between tries to claim a run that is locked.
_LOCKED_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRules:
    """How many runs at once, in all and of one organization; the seconds of a stop, and from one poll to the next."""

    max_running: int
    per_organization: int | None = None
    grace_seconds: float
    poll_seconds: float


class Workers:
    """Implements ``services.context.Dispatcher`` with tasks in this process and signals to other processes."""

    def __init__(self, database: Database, bus: Bus, executor: Executor, rules: WorkerRules) -> None:
        self._database = database
        self._bus = bus
        self._executor = executor
        self._rules = rules
        # Runs that were announced while a slot was free. With `_is_behind` there may be more in the table.
        self._announced: deque[int] = deque()
        self._is_behind = True
        self._is_working = False
        # Until when segments may go on, by the loop's clock; None before the stop begins.
        self._drained_by: float | None = None
        self._wakeup = asyncio.Event()
        self._segments: dict[int, asyncio.Task[None]] = {}
        # Slots of requests that are being accepted.
        self._reserved = 0
        self._has_settled = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        # How long runs wait after a failed claim, and those that wait now.
        self._delays: dict[int, Iterator[float]] = {}
        self._tries: dict[int, int] = {}
        self._waiting: set[int] = set()
        # Runs that were ready again before their segment here had ended: a poll follows when it has.
        self._ready_again: set[int] = set()
        bus.on_signal(self._on_signal)

    def ready(self, run_key: int) -> None:
        """Execute the run as soon as a slot is free, here or elsewhere."""
        self._bus.signal(Signal.READY, run_key)
        self._on_signal(Signal.READY, run_key)

    @contextmanager
    def reserving(self) -> Iterator[Slot | None]:
        """Reserve a slot for the block, which accepts a request, and execute at once what it claims.

        None where no slot is free, where others have waited for longer, and where the slots of an organization are
        counted, which takes a lock.
        """
        waited_for = self._announced or self._is_behind or self._rules.per_organization is not None
        if not self._is_working or waited_for or self._free() <= 0:
            yield None
            return
        slot = Slot(self._executor.claim_rules)
        self._reserved += 1
        try:
            yield slot
        except asyncio.CancelledError:
            # A request that was cancelled twice may be accepted later.
            slot.execute = self._execute_claimed
            raise
        finally:
            self._reserved -= 1
            self._has_settled.set()
            self._execute_claimed(slot.claimed if slot.is_committed else None)

    def cancelled(self, run_key: int) -> None:
        """Stop the run's segment at its next await, wherever it is."""
        self._bus.signal(Signal.CANCELLED, run_key)
        self._on_signal(Signal.CANCELLED, run_key)

    def pause_requested(self, run_key: int) -> None:
        """Have the run's segment end before its next model or tool call, wherever it is."""
        self._bus.signal(Signal.PAUSE, run_key)
        self._on_signal(Signal.PAUSE, run_key)

    def look_again(self) -> None:
        """Look for runs that could not be claimed before: other agents are served now."""
        self._on_ready(None)

    def stop_claiming(self) -> None:
        """Start no more segments; those that run go on."""
        self._is_working = False

    async def drain(self) -> None:
        """Start no more segments and wait until none runs here, at most for the grace period.

        In its first half segments may end by themselves; in the second they end before their next model or tool call,
        for other processes to go on. The period begins with the first call of this method.
        """
        self.stop_claiming()
        loop, grace = asyncio.get_running_loop(), self._rules.grace_seconds
        if self._drained_by is None:
            self._drained_by = loop.time() + grace
        while self._reserved and loop.time() < self._drained_by:
            self._has_settled.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._drained_by):
                    await self._has_settled.wait()
        await self._wait_for_segments(self._drained_by - grace / 2 - loop.time())
        self._executor.request_release(stopping=True)
        await self._wait_for_segments(self._drained_by - loop.time())

    def abandon(self, run_key: int) -> None:
        """Stop the run's segment here: its lease was lost."""
        segment = self._segments.get(run_key)
        if segment is not None:
            segment.cancel()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Execute runs during the block; at its end drain, and cancel the calls that take longer than that."""
        # The segments have a group of their own, so that they are drained also where the feeding has died.
        async with background_tasks() as vital, background_tasks() as tasks:
            self._is_working, self._tasks = True, tasks
            feeding = VitalTask(vital, self._feed(tasks), "workers")
            try:
                yield
            finally:
                feeding.stop()
                await self.drain()
                self._tasks = None
                for segment in list(self._segments.values()):
                    segment.cancel()

    def _on_signal(self, signal: Signal, run_key: int | None) -> None:
        match signal:
            case Signal.READY:
                self._on_ready(run_key)
            case Signal.CANCELLED if run_key is not None:
                self.abandon(run_key)
            case Signal.PAUSE if run_key is not None:
                self._executor.request_pause(run_key)

    def _on_ready(self, run_key: int | None) -> None:
        if run_key is not None and len(self._announced) < self._free():
            self._announced.append(run_key)
        else:
            self._is_behind = True
        self._wakeup.set()

    def _free(self) -> int:
        return self._rules.max_running - len(self._segments) - self._reserved

    async def _feed(self, tasks: asyncio.TaskGroup) -> None:
        self._wakeup.set()
        while True:
            seconds = self._rules.poll_seconds
            if self._bus.is_notified:
                seconds *= _POLLS_LEFT_OUT
            try:
                async with asyncio.timeout(seconds):
                    await self._wakeup.wait()
            except TimeoutError:
                # Not in one expression: it would forget what is announced while the database answers.
                if await self._may_be_behind():
                    self._is_behind = True
            self._wakeup.clear()
            await self._fill(tasks)

    async def _fill(self, tasks: asyncio.TaskGroup) -> None:
        """Start segments until no slot is free or no run is ready."""
        while self._is_working and self._free() > 0:
            if self._announced:
                self._start(tasks, self._announced.popleft())
            elif self._is_behind:
                self._is_behind = False
                for run_key in await self._poll():
                    if self._free() <= 0:
                        # Meanwhile a request has claimed its run.
                        self._is_behind = True
                        break
                    self._start(tasks, run_key)
            else:
                return

    async def _may_be_behind(self) -> bool:
        """Whether any run is PENDING: one statement, where a poll takes five. It is what an idle process does most."""
        try:
            return await self._database.query(has_pending)
        except UnpauseError:
            # The poll itself logs and retries.
            return True

    async def _poll(self) -> list[int]:
        free, per_organization, served = self._free(), self._rules.per_organization, self._executor.served
        # Those that run here, and those that wait after a failed claim, are passed over.
        limit = free + len(self._segments) + len(self._waiting)
        try:
            found = await self._database.read(
                lambda connection: list_ready(connection, limit, per_organization, served)
            )
        except Exception as error:  # noqa: BLE001 - the boundary around a poll: the next one tries again
            log = _log.debug if isinstance(error, DatabaseUnavailable) else _log.warning
            log("queue poll failed", error=type(error).__name__)
            asyncio.get_running_loop().call_later(next(delays()), self._on_ready, None)
            return []
        # As it is now: a segment that ended during the poll has left its run to this one.
        running = self._segments.keys()
        self._ready_again.update(running & set(found))
        chosen = [run_key for run_key in found if run_key not in running and run_key not in self._waiting][:free]
        # There may be more: with all slots taken they are polled for when one is free again.
        self._is_behind = self._is_behind or len(chosen) == free or len(found) == limit
        return chosen

    def _start(self, tasks: asyncio.TaskGroup, run_key: int) -> None:
        if run_key in self._segments:
            self._ready_again.add(run_key)
            return
        if run_key in self._waiting:
            # It was announced before its claim failed, or by an echo since.
            return
        self._begin(tasks, run_key)

    def _execute_claimed(self, claimed: Claimed | None) -> None:
        if claimed is None:
            self._wakeup.set()
        elif self._tasks is None:
            _log.warning("segment not started: the process is stopping", run_id=claimed.segment.run.run_id)
        else:
            # Beside the end of its segment before, perhaps: that is written, or there would be no other.
            self._begin(self._tasks, claimed.segment.run.id, claimed)

    def _begin(self, tasks: asyncio.TaskGroup, run_key: int, claimed: Claimed | None = None) -> None:
        segment = tasks.create_task(self._execute(run_key, claimed), name=f"segment of run {run_key}")
        self._segments[run_key] = segment
        # Not in the task itself: a task that is cancelled before its first step never gets there.
        segment.add_done_callback(partial(self._finished, run_key))

    async def _execute(self, run_key: int, claimed: Claimed | None) -> None:
        try:
            again = await self._executor.execute(run_key, claimed)
        except asyncio.CancelledError:
            # Released, unless it was cancelled or its lease lost: another process may go on.
            self._bus.signal(Signal.READY, run_key)
            self._is_behind = True
            raise
        except DatabaseUnavailable:
            # No failure of this run: it is claimed like every other once the database is back.
            _log.debug("claim failed: database unavailable", run_key=run_key)
            asyncio.get_running_loop().call_later(next(delays()), self._on_ready, run_key)
            return
        except DatabaseBusy:
            self._retry_later(run_key, _LOCKED_SECONDS)
            _log.info("claim deferred: run locked", run_key=run_key)
            return
        except Exception as error:  # noqa: BLE001 - the boundary around the executor: a failure must not reach other runs
            await self._try_again_or_give_up(run_key, is_its_own=not isinstance(error, StorageError))
            return
        self._forget(run_key)
        if again:
            self._is_behind = True
            if not self._is_working:
                self._bus.signal(Signal.READY, run_key)

    async def _try_again_or_give_up(self, run_key: int, *, is_its_own: bool) -> None:
        """Retry a run whose claim failed; end it after too many failures of its own."""
        self._tries[run_key] = self._tries.get(run_key, 0) + is_its_own
        delay = next(self._delays.setdefault(run_key, delays()))
        if self._tries[run_key] < _MAX_TRIES:
            _log.exception("claim failed; retrying", run_key=run_key, seconds=delay)
            self._retry_later(run_key, delay)
            return
        try:
            await self._executor.give_up(run_key)
        except Exception:  # noqa: BLE001 - the boundary around the executor, too: the end is retried
            _log.exception("ending the run failed; retrying", run_key=run_key, seconds=delay)
            self._retry_later(run_key, delay)
            return
        _log.exception("run ended: claims failed repeatedly", run_key=run_key, tries=self._tries[run_key])
        self._forget(run_key)

    def _forget(self, run_key: int) -> None:
        self._delays.pop(run_key, None)
        self._tries.pop(run_key, None)

    def _retry_later(self, run_key: int, seconds: float) -> None:
        # A timer and no sleeping task: it takes no slot, and a stop does not wait for it.
        self._waiting.add(run_key)
        asyncio.get_running_loop().call_later(seconds, self._try_again, run_key)

    def _try_again(self, run_key: int) -> None:
        self._waiting.discard(run_key)
        self._on_ready(run_key)

    def _finished(self, run_key: int, segment: asyncio.Task[None]) -> None:
        if self._segments.get(run_key) is segment:
            del self._segments[run_key]
        if self._rules.per_organization is not None or run_key in self._ready_again:
            # Another run of its organization may wait for this end, or the run's own next segment.
            self._is_behind = True
        self._ready_again.discard(run_key)
        self._wakeup.set()

    async def _wait_for_segments(self, seconds: float) -> None:
        if self._segments:
            await asyncio.wait(self._segments.values(), timeout=max(0.0, seconds))
