"""Group commit: units that wait while a commit is under way share the next transaction."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from sqlalchemy.engine import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_LARGEST_BATCH = 256


class Lane(Protocol):
    """A connection that runs one piece of work after the other, each in a transaction."""

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a transaction that commits when it returns."""
        ...


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A unit in the queue, and where its caller waits for the result."""

    unit: Callable[[Connection], Any]
    result: asyncio.Future[Any]


class Batches:
    """Units on their way into a lane. Start ``write_all`` as a task; ``finish`` lets it end once all is written."""

    def __init__(self) -> None:
        self._waiting: deque[_Waiting] = deque()
        self._work = asyncio.Event()
        self._is_finishing = False

    async def add(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit`` with the next batch; return its result, or raise its exception, once that is on disk."""
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(unit, result))
        self._work.set()
        try:
            return await asyncio.shield(result)
        except asyncio.CancelledError:
            # What the caller writes next may build on this, and may take another way to the database.
            await outlast(result)
            raise

    async def write_all(self, lane: Lane) -> None:
        """Write batch after batch through the lane. Several lanes may share the work."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _LARGEST_BATCH))]
                await _settle(lane, batch)
            if self._is_finishing:
                self._work.set()
                return

    def finish(self) -> None:
        """Let the tasks end when nothing waits any more."""
        self._is_finishing = True
        self._work.set()


async def outlast(result: asyncio.Future[Any]) -> None:
    """Wait for what goes on though its caller was cancelled, with nobody left to hear of a failure.

    Ends early where the caller is cancelled once more.
    """
    result.add_done_callback(_take_note)
    await asyncio.wait((result,))


def _take_note(result: asyncio.Future[Any]) -> None:
    if not result.cancelled():
        # Or asyncio would log that nobody did.
        result.exception()


async def _settle(lane: Lane, batch: list[_Waiting]) -> None:
    """Run the batch in one transaction and hand every caller its own result or exception."""
    try:
        outcomes = await lane.run(lambda connection: _run_all(connection, [waiting.unit for waiting in batch]))
    except Exception as error:  # noqa: BLE001 - the commit itself failed: every caller has to know
        outcomes = [_Outcome(error=error)] * len(batch)
    for waiting, outcome in zip(batch, outcomes, strict=True):
        if waiting.result.done():
            continue
        if outcome.error is not None:
            waiting.result.set_exception(outcome.error)
        else:
            waiting.result.set_result(outcome.value)


@dataclass(frozen=True, slots=True)
class _Outcome:
    value: Any = None
    error: Exception | None = None


def _run_all(connection: Connection, units: list[Callable[[Connection], Any]]) -> list[_Outcome]:
    if len(units) == 1:
        # Alone, its failure may roll the whole transaction back: no savepoint needed.
        return [_Outcome(value=units[0](connection))]
    return [_run_guarded(connection, unit) for unit in units]


def _run_guarded(connection: Connection, unit: Callable[[Connection], Any]) -> _Outcome:
    connection.exec_driver_sql("SAVEPOINT unit")
    try:
        value = unit(connection)
    except Exception as error:  # noqa: BLE001 - handed to the caller who waits for this unit
        connection.exec_driver_sql("ROLLBACK TO unit")
        connection.exec_driver_sql("RELEASE unit")
        return _Outcome(error=error)
    connection.exec_driver_sql("RELEASE unit")
    return _Outcome(value=value)
