"""Group commit: units that wait while a commit is under way share the next transaction."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from contextlib import contextmanager, nullcontext, suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from unpause.errors import DatabaseBusy, ShuttingDown
from unpause.store.engine.statements import flush, send_text
from unpause.tasks import retrieve
from unpause.telemetry.metrics import BATCH, COMMIT_WAIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    # Translates the exceptions of a driver.
    Translation = Callable[[], AbstractContextManager[None]]

T = TypeVar("T")

_LARGEST_BATCH = 256
# Between tries of units that wait for a lock.
_BLOCKED_SECONDS = 0.2


class Lane(Protocol):
    """A connection that runs one piece of work after the other, each in a transaction."""

    async def run(self, work: Callable[[Connection], T], since: float | None = None) -> T:
        """Run ``work``, which has waited ``since`` that moment, in a transaction that commits when it returns."""
        ...


class WaitingUnit(asyncio.Future[Any]):
    """A unit in the queue since a moment, and the future that its caller awaits.

    A caller that is cancelled waits for the unit all the same, since its next write may depend on this one and may use
    another connection; unless it is cancelled once more.
    """

    def __init__(
        self, unit: Callable[[Connection], Any], since: float, then: Callable[[Any], None] | None = None
    ) -> None:
        super().__init__()
        self.unit = unit
        self.since = since
        self.is_given_up = False
        self._then = then
        self._context = copy_context()

    def note_commit(self, value: object) -> None:
        """Have ``then`` be called before the caller goes on, also where nobody waits any more."""
        if self._then is not None:
            self.get_loop().call_soon(self._then, value, context=self._context)

    def cancel(self, msg: object = None) -> bool:
        """Note that the caller has been cancelled; return whether that ends the wait.

        Where it does not, asyncio raises CancelledError in the caller once there is a result.
        """
        if self.is_given_up:
            return super().cancel(msg)
        if not self.done():
            self.is_given_up = True
            self.add_done_callback(retrieve)
        return False


class UnitQueue(ABC):
    """The units that wait for the next transaction."""

    def __init__(self, translation: Translation = nullcontext, now: Callable[[], float] = monotonic) -> None:
        """``now`` is the clock of the moment since when a unit waits."""
        self._translation = translation
        self._now = now
        self._waiting: deque[WaitingUnit] = deque()
        self._is_over = False

    async def add(self, unit: Callable[[Connection], T], then: Callable[[T], None] | None = None) -> T:
        """Run ``unit`` with the next batch; return its result, or raise its exception, once that is on disk.

        ``then`` is called with the result first, in the caller's context, also where the caller has been cancelled.
        Raises ShuttingDown where nothing is written any more.
        """
        if self._is_over:
            raise ShuttingDown
        waiting = WaitingUnit(unit, self._now(), then)
        self._waiting.append(waiting)
        self._announce()
        began = perf_counter()
        value: T = await waiting
        COMMIT_WAIT.observe(perf_counter() - began)
        return value

    @abstractmethod
    def _announce(self) -> None:
        """Have the units that wait written."""

    def _take_batch(self) -> list[WaitingUnit]:
        """Return the units of the next transaction, none where all were taken already; from any thread."""
        batch: list[WaitingUnit] = []
        with suppress(IndexError):
            while len(batch) < _LARGEST_BATCH:
                batch.append(self._waiting.popleft())
        if batch:
            BATCH.observe(len(batch))
        return batch

    def _run_batch(self, batch: list[WaitingUnit], connection: Connection) -> list[UnitOutcome]:
        """Run the units in the transaction of the connection; one that fails changes nothing."""
        if len(batch) == 1:
            # A failure may roll the whole transaction back: no savepoint is needed.
            return [UnitOutcome(value=batch[0].unit(connection))]
        return [_run_guarded(connection, waiting.unit, self._translation) for waiting in batch]


class GroupCommit(UnitQueue):
    """The queue of units for lanes. Start ``write_all`` as a task; ``finish`` lets it end once all are written.

    Where ``write_blocked`` is started, too, a unit that waits for a lock leaves its batch and is tried again by itself,
    as often as necessary; otherwise its caller gets the error.
    """

    def __init__(self, translation: Translation = nullcontext, now: Callable[[], float] = monotonic) -> None:
        super().__init__(translation, now)
        # When the database last answered, by the same clock as the moment since when a unit waits.
        self._answered_at = now()
        self._work = asyncio.Event()
        self._blocked: deque[WaitingUnit] | None = None
        self._is_blocked = asyncio.Event()
        self._is_finishing = False

    def _announce(self) -> None:
        self._work.set()

    async def write_all(self, lane: Lane) -> None:
        """Write batch after batch through the lane. Several lanes may share the work."""
        with self._reported_if_interrupted():
            while True:
                await self._work.wait()
                self._work.clear()
                while batch := self._take_batch():
                    await self._settle(lane, batch)
                if self._is_finishing:
                    self._work.set()
                    return

    def finish(self) -> None:
        """Let the tasks end when nothing waits any more."""
        self._is_finishing = True
        self._work.set()
        self._is_blocked.set()

    async def write_blocked(self, lane: Lane) -> None:
        """Write the units that wait for a lock, one at a time, until ``finish``.

        One whose caller has been cancelled is not tried forever, nor any after ``finish``: it has changed nothing.
        """
        self._blocked = blocked = deque[WaitingUnit]()
        with self._reported_if_interrupted():
            while not self._is_finishing or blocked:
                await self._is_blocked.wait()
                # Those that are set aside meanwhile come after the pause.
                for _ in range(len(blocked)):
                    await self._settle(lane, [blocked.popleft()])
                if blocked:
                    await asyncio.sleep(_BLOCKED_SECONDS)
                elif not self._is_finishing:
                    self._is_blocked.clear()

    @contextmanager
    def _reported_if_interrupted(self) -> Iterator[None]:
        """Where the block is interrupted, fail all waiting units: no caller may wait forever."""
        try:
            yield
        except BaseException:
            self._is_over = True
            for waiting in (*self._waiting, *(self._blocked or ())):
                settle(waiting, UnitOutcome(error=ShuttingDown()))
            raise

    async def _settle(self, lane: Lane, batch: list[WaitingUnit]) -> None:
        """Run the batch in one transaction and hand every caller its own result or exception."""
        try:
            since = max(batch[0].since, self._answered_at)
            outcomes = await lane.run(partial(self._run_batch, batch), since)
            self._answered_at = self._now()
        except Exception as error:  # noqa: BLE001 - the boundary of a batch: the commit failed, and every caller gets the error
            outcomes = [UnitOutcome(error=error)] * len(batch)
        except BaseException:
            # The writing task was cancelled: it is unknown whether this was written.
            for waiting in batch:
                settle(waiting, UnitOutcome(error=ShuttingDown()))
            raise
        for waiting, outcome in zip(batch, outcomes, strict=True):
            given_up = waiting.is_given_up or self._is_finishing or self._blocked is None
            if isinstance(outcome.error, DatabaseBusy) and not given_up:
                self._set_aside(waiting)
            else:
                settle(waiting, outcome)

    def _set_aside(self, waiting: WaitingUnit) -> None:
        if self._blocked is not None:
            waiting.since = self._now()
            self._blocked.append(waiting)
            self._is_blocked.set()


@dataclass(frozen=True, slots=True)
class UnitOutcome:
    """What a call returned, or the exception that it raised."""

    value: Any = None
    error: BaseException | None = None


def settle(result: asyncio.Future[Any], outcome: UnitOutcome) -> None:
    """Set the outcome as the result, unless that was cancelled."""
    if isinstance(result, WaitingUnit) and outcome.error is None:
        result.note_commit(outcome.value)
    if result.done():
        return
    if isinstance(outcome.error, StopIteration):
        # No future takes one.
        result.set_exception(RuntimeError("StopIteration was raised"))
    elif outcome.error is not None:
        result.set_exception(outcome.error)
    else:
        result.set_result(outcome.value)


def _run_guarded(connection: Connection, unit: Callable[[Connection], Any], translation: Translation) -> UnitOutcome:
    send_text(connection, "SAVEPOINT unit")
    try:
        with translation():
            value = unit(connection)
            send_text(connection, "RELEASE unit")
            flush(connection)
    except Exception as error:  # noqa: BLE001 - the boundary of a unit: raised where its result is awaited
        with suppress(DBAPIError):
            # The savepoint itself may not have been sent yet.
            flush(connection)
        connection.exec_driver_sql("ROLLBACK TO unit")
        connection.exec_driver_sql("RELEASE unit")
        return UnitOutcome(error=error)
    return UnitOutcome(value=value)
