"""SQLite: units run whole in the thread of a connection; one writer, a few readers beside it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from queue import SimpleQueue
from threading import Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import create_engine, event
from sqlalchemy.pool import NullPool

from unpause.domain.json import dump_json, load_json
from unpause.store.engine.failures import database_errors
from unpause.store.engine.group_commit import UnitOutcome, UnitQueue, settle
from unpause.store.engine.statements import DRIVER, announce_commit, announce_statement, driver_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from sqlalchemy.engine import URL, Connection, Dialect, Engine

    from unpause.store.engine.group_commit import WaitingUnit

T = TypeVar("T")

_READERS = 4
_COMMIT = "COMMIT"
_BUSY = "SQLITE_BUSY"
_LOOK_SECONDS = 0.005


class _Driver:
    """Executes statements at once. Implements ``store.engine.statements.Driver``."""

    def __init__(self, driver: sqlite3.Connection, dialect: Dialect) -> None:
        self.connection = driver
        self.dialect = dialect

    def fetch(self, connection: Connection, text: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Execute a statement and return its rows."""
        announce_statement(connection, text)
        try:
            return self.connection.execute(text, parameters).fetchall()
        except sqlite3.Error as error:
            raise driver_error(connection, text, error) from error

    def send(self, connection: Connection, text: str, parameters: Sequence[Sequence[Any]]) -> None:
        """Execute a statement for each of the ``parameters``."""
        announce_statement(connection, text)
        try:
            if len(parameters) == 1:
                self.connection.execute(text, parameters[0]).close()
            else:
                self.connection.executemany(text, parameters).close()
        except sqlite3.Error as error:
            raise driver_error(connection, text, error) from error

    def flush(self, connection: Connection) -> None:
        """Do nothing: what was sent is executed."""

    def commit(self, connection: Connection) -> None:
        """Commit the transaction; the driver's own ``commit`` prepares the statement anew each time."""
        announce_commit(connection)
        try:
            self.connection.execute(_COMMIT)
        except sqlite3.Error as error:
            raise driver_error(connection, _COMMIT, error) from error


class _Lane:
    """One connection, and the thread that uses it.

    A queue of the thread's own: a ThreadPoolExecutor costs more than twice as much for each hop (70 and 30 µs of CPU).
    """

    def __init__(self, engine: Engine, begin: str, busy_seconds: float = 0) -> None:
        self._engine = engine
        self._begin = begin
        self._busy_seconds = busy_seconds
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[_Lane]:
        """Hold the thread and its connection for the length of the block."""
        Thread(target=self._serve, name=f"sqlite {self._begin}").start()
        try:
            self._connection = await self._in_thread(self._connect)
            try:
                yield self
            finally:
                await self._in_thread(self._connection.close)
        finally:
            self._calls.put(None)

    def _connect(self) -> Connection:
        with database_errors():
            # This writes: the log of a database beside which there is no room cannot be made.
            connection = self._engine.connect()
        self._driver = _Driver(cast("sqlite3.Connection", connection.connection.driver_connection), connection.dialect)
        if self._busy_seconds and self._driver.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            # Nothing but the beginning of a transaction waits then, which ``_start`` does.
            self._driver.connection.execute("PRAGMA busy_timeout=0").close()
        connection.info[DRIVER] = self._driver
        return connection

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in the lane's thread, in a transaction that commits when it returns."""
        return await self._in_thread(partial(self.transact, work))

    def post(self, call: Callable[[], None]) -> None:
        """Have the lane's thread make the call, which raises nothing, after those that were posted before."""
        self._calls.put(call)

    async def flush(self) -> None:
        """Wait until all calls that were posted are made."""
        await self._in_thread(lambda: None)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._calls.put(partial(_call, function, result))
        return await result

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call()

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a transaction of the driver's: SQLAlchemy's costs several times as much as one of these.

        Where the work executes a statement through SQLAlchemy, that begins its own, around nothing, and commits for
        both.
        """
        connection, driver = self._connection, self._driver
        with database_errors():
            self._start()
            try:
                result = work(connection)
                if connection.in_transaction():
                    connection.commit()
                else:
                    driver.commit(connection)
            except BaseException:
                self._roll_back()
                raise
            return result

    def _start(self) -> None:
        """Begin the transaction, if need be once another process has ended its own.

        SQLite itself would look again after 0.1 s: between the transactions of a busy server it is free more briefly.
        """
        driver = self._driver.connection
        end = monotonic() + self._busy_seconds
        while True:
            try:
                driver.execute(self._begin)
            except sqlite3.OperationalError as error:
                if not error.sqlite_errorname.startswith(_BUSY) or monotonic() > end:
                    raise
                sleep(_LOOK_SECONDS)
            else:
                return

    def _roll_back(self) -> None:
        """Leave no transaction open: not SQLAlchemy's, nor the one that a failed commit leaves."""
        try:
            self._connection.rollback()
        finally:
            if self._driver.connection.in_transaction:
                self._driver.connection.rollback()


def _call(function: Callable[[], object], result: asyncio.Future[Any]) -> None:
    try:
        outcome = UnitOutcome(value=function())
    except BaseException as error:  # noqa: BLE001 - the thread's boundary: raised where the result is awaited
        outcome = UnitOutcome(error=error)
    result.get_loop().call_soon_threadsafe(settle, result, outcome)


class _Writer(UnitQueue):
    """The queue of a lane whose thread, when it is free, writes all that waits: no task stands in between."""

    def __init__(self) -> None:
        super().__init__(database_errors)
        self._is_over = True
        self._lane: _Lane | None = None
        self._is_announced = False

    @asynccontextmanager
    async def opened(self, engine: Engine, busy_seconds: float) -> AsyncIterator[None]:
        """Write during the block; what was added in it is written at its end."""
        async with _Lane(engine, "BEGIN IMMEDIATE", busy_seconds).opened() as lane:
            self._lane, self._is_over = lane, False
            try:
                yield
            finally:
                self._is_over = True
                self._post()
                await lane.flush()

    def _announce(self) -> None:
        if not self._is_announced:
            # What comes in this turn of the event loop shares the transaction.
            self._is_announced = True
            asyncio.get_running_loop().call_soon(self._post)

    def _post(self) -> None:
        self._is_announced = False
        if self._lane is not None:
            self._lane.post(partial(self._write, self._lane))

    def _write(self, lane: _Lane) -> None:
        # All that waits: those that are more than one transaction takes have announced themselves in vain. Perhaps
        # nothing does, where an earlier call has written it.
        while batch := self._take_batch():
            try:
                outcomes = lane.transact(partial(self._run_batch, batch))
            except BaseException as error:  # noqa: BLE001 - the boundary of a batch: the commit failed, and every caller gets the error
                outcomes = [UnitOutcome(error=error)] * len(batch)
            batch[0].get_loop().call_soon_threadsafe(_settle_all, batch, outcomes)


def _settle_all(batch: list[WaitingUnit], outcomes: list[UnitOutcome]) -> None:
    for waiting, outcome in zip(batch, outcomes, strict=True):
        settle(waiting, outcome)


class SqliteStorage:
    """One file: all units that wait while a commit is under way share the next one."""

    def __init__(self, url: URL, busy_seconds: float) -> None:
        self._engine = _create_engine(url, busy_seconds)
        self._busy_seconds = busy_seconds
        self._readers: asyncio.Queue[_Lane] = asyncio.Queue()
        self._writer = _Writer()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold the connections for the length of the block; what is under way finishes."""
        async with AsyncExitStack() as lanes:
            for _ in range(_READERS):
                self._readers.put_nowait(await lanes.enter_async_context(_Lane(self._engine, "BEGIN").opened()))
            try:
                async with self._writer.opened(self._engine, self._busy_seconds):
                    yield
            finally:
                # Those who wait for a reader have their turn first.
                for _ in range(_READERS):
                    await self._readers.get()

    async def write(self, unit: Callable[[Connection], T], then: Callable[[T], None], *, waits: bool = True) -> T:
        """Run ``unit`` with the next commit."""
        del waits  # There is one writer: a unit that waits keeps all others waiting.
        return await self._writer.add(unit, then)

    async def append(self, unit: Callable[[Connection], T]) -> T:
        """Do the same as ``write``."""
        return await self._writer.add(unit)

    async def execute(self, unit: Callable[[Connection], T]) -> T:
        """Do the same as ``write``."""
        return await self._writer.add(unit)

    async def query(self, unit: Callable[[Connection], T]) -> T:
        """Do the same as ``read``."""
        return await self.read(unit)

    async def read(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit`` on one snapshot, beside the writer."""
        lane = await self._readers.get()
        try:
            return await lane.run(unit)
        finally:
            self._readers.put_nowait(lane)

    def count_connections(self) -> tuple[int, int]:
        """Return how many of the readers are in use, and how many there are; the writer is not among them."""
        return _READERS - self._readers.qsize(), _READERS


def _create_engine(url: URL, busy_seconds: float) -> Engine:
    def connected(driver: sqlite3.Connection, _record: object) -> None:
        # The driver begins no transactions: its own way takes a writer's lock only half-way through.
        driver.isolation_level = None
        milliseconds = round(busy_seconds * 1000)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", f"busy_timeout={milliseconds}"):
            driver.execute(f"PRAGMA {pragma}").close()

    engine = create_engine(
        url,
        # A lane keeps its connection: there is nothing to pool.
        poolclass=NullPool,
        # Parameters of a statement, such as the URL of a webhook, must not reach the logs.
        hide_parameters=True,
        json_serializer=dump_json,
        json_deserializer=load_json,
    )
    event.listen(engine, "connect", connected)
    return engine
