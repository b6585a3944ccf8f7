"""Which thread and which transaction a piece of work on the database runs in.

Work comes as a *unit*: a plain function of a SQLAlchemy connection. On PostgreSQL a unit runs in a transaction of its
own through the async engine. On SQLite a unit is handed whole to the thread of an aiosqlite connection, because a hop
between threads for every statement costs several times what the statement does; and since SQLite has one writer
anyway, all units that wait while a commit is under way share the next one (group commit).
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from sqlalchemy.engine import Connection, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from unpause.errors import DatabaseUnavailable, InvalidSetting, ShuttingDown
from unpause.store.json import dump_json, load_json

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from sqlalchemy.engine import URL

T = TypeVar("T")

__all__ = ["Connection", "Database", "database_file", "parse_url"]

_log = structlog.get_logger(__name__)

_READERS = 4
_BUSY_MILLISECONDS = 5000
_LARGEST_BATCH = 256


def parse_url(database_url: str) -> URL:
    """Return the parsed URL; raise InvalidSetting unless it names a database and driver served here."""
    try:
        url = make_url(database_url)
    except (ValueError, ArgumentError) as error:
        raise InvalidSetting(
            f"database_url cannot be read ({type(error).__name__}); it looks like sqlite+aiosqlite:///unpause.db"
        ) from None
    if url.drivername == "sqlite":
        url = url.set(drivername="sqlite+aiosqlite")
    if url.drivername not in {"sqlite+aiosqlite", "postgresql+psycopg"}:
        raise InvalidSetting(
            f"database_url: {url.drivername} is not supported; use sqlite+aiosqlite:///FILE or postgresql+psycopg://…"
        )
    if url.drivername == "sqlite+aiosqlite" and url.database in {None, "", ":memory:"}:
        raise InvalidSetting("database_url: SQLite needs a file; what lives in memory would not survive a restart")
    return url


def database_file(database_url: str) -> Path | None:
    """Return the SQLite file the URL names, or None for a server database."""
    url = parse_url(database_url)
    if url.drivername != "sqlite+aiosqlite" or url.database is None:
        return None
    return Path(url.database)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A unit in the queue, and where its caller waits for the result."""

    unit: Callable[[Connection], Any]
    result: asyncio.Future[Any]


class _Lane:
    """One aiosqlite connection, and a plain SQLAlchemy connection on the same SQLite handle in its thread."""

    def __init__(self, owner: AsyncConnection, driver: Any, begin: str) -> None:  # noqa: ANN401 - aiosqlite is untyped here
        self._owner = owner
        self._driver = driver
        self._begin = begin
        self._connection: Connection | None = None

    @classmethod
    async def open(cls, engine: AsyncEngine, begin: str) -> _Lane:
        """Check a connection out of the engine's pool for the lane's life."""
        owner = await engine.connect()
        raw = await owner.get_raw_connection()
        lane = cls(owner, raw.driver_connection, begin)
        await lane._in_thread(lane._connect)
        return lane

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in the lane's thread, in a transaction that commits when it returns."""
        return await self._in_thread(self._transact, work)

    async def close(self) -> None:
        """Give the connection back."""
        await self._in_thread(self._disconnect)
        await self._owner.close()

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401
        # SQLAlchemy's own dialect reaches the thread's queue the same way; the version is pinned for it.
        result: T = await self._driver._execute(function, *arguments)  # noqa: SLF001
        return result

    @property
    def _handle(self) -> sqlite3.Connection:
        handle: sqlite3.Connection = self._driver._conn  # noqa: SLF001
        return handle

    def _connect(self) -> None:
        handle = self._handle
        handle.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={_BUSY_MILLISECONDS}",
        ):
            handle.execute(f"PRAGMA {pragma}").close()
        engine = create_engine(
            "sqlite://",
            creator=lambda: handle,
            poolclass=StaticPool,
            json_serializer=dump_json,
            json_deserializer=load_json,
        )
        self._connection = engine.connect()

    def _transact(self, work: Callable[[Connection], T]) -> T:
        if self._connection is None:
            raise ShuttingDown
        try:
            # The driver's own transaction handling is off, so that a writer takes its lock at once and not half-way.
            self._handle.execute(self._begin)
            with self._connection.begin():
                return work(self._connection)
        finally:
            # A commit that fails leaves the transaction open, though SQLAlchemy takes it for ended.
            if self._handle.in_transaction:
                self._handle.rollback()

    def _disconnect(self) -> None:
        # The handle belongs to aiosqlite, which closes it: only SQLAlchemy's view of it ends here.
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class Database:
    """The one way to the database. Open it with ``async with database.opened():``."""

    def __init__(self, database_url: str) -> None:
        self.url = parse_url(database_url)
        self.is_sqlite = self.url.drivername == "sqlite+aiosqlite"
        self._engine: AsyncEngine = create_async_engine(
            self.url, json_serializer=dump_json, json_deserializer=load_json, pool_size=_READERS + 1, max_overflow=0
        )
        # PostgreSQL's default shows each statement what was committed before it, which is not one moment.
        self._snapshots = (
            self._engine.execution_options(isolation_level="REPEATABLE READ") if not self.is_sqlite else self._engine
        )
        self._readers: asyncio.Queue[_Lane] = asyncio.Queue()
        self._waiting: deque[_Waiting] = deque()
        self._work = asyncio.Event()
        self._is_open = False

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Database]:
        """Hold the connections, and on SQLite the writer task, for the length of the block."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._engine.dispose)
            if self.is_sqlite:
                await self._open_lanes(stack)
            self._is_open = True
            try:
                yield self
            finally:
                self._is_open = False

    async def write(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit`` in a transaction and return its result once that is on disk.

        A unit that raises changes nothing, and its exception is raised here. One that was begun is not broken off when
        its caller is cancelled: what the caller writes next may build on it.
        """
        if not self._is_open:
            raise ShuttingDown
        if not self.is_sqlite:
            return await _to_its_end(self._write_on_server(unit))
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(unit, result))
        self._work.set()
        return await result

    async def _write_on_server(self, unit: Callable[[Connection], T]) -> T:
        with _answering():
            async with self._engine.begin() as connection:
                return await connection.run_sync(unit)

    async def read(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit`` on one consistent snapshot, beside the writer."""
        if not self._is_open:
            raise ShuttingDown
        if not self.is_sqlite:
            with _answering():
                async with self._snapshots.begin() as connection:
                    return await connection.run_sync(unit)
        lane = await self._readers.get()
        try:
            return await lane.run(unit)
        finally:
            self._readers.put_nowait(lane)

    async def _open_lanes(self, stack: AsyncExitStack) -> None:
        """Open the readers, the writer and its task; closing the stack first lets all that is under way finish."""
        for _ in range(_READERS):
            reader = await _Lane.open(self._engine, "BEGIN")
            stack.push_async_callback(self._close_reader)
            self._readers.put_nowait(reader)
        writer = await _Lane.open(self._engine, "BEGIN IMMEDIATE")
        stack.push_async_callback(writer.close)
        writing = asyncio.create_task(self._write_batches(writer), name="database writer")
        stack.push_async_callback(self._finish_writing, writing)

    async def _write_batches(self, writer: _Lane) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _LARGEST_BATCH))]
                await _settle(writer, batch)
            if not self._is_open:
                return

    async def _finish_writing(self, writing: asyncio.Task[None]) -> None:
        self._work.set()
        await writing

    async def _close_reader(self) -> None:
        lane = await self._readers.get()
        await lane.close()


async def _to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Return what the work returns; somebody who is cancelled meanwhile goes on only when it has ended."""
    task = asyncio.create_task(work, name="database write")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        if not task.cancelled():
            # Nobody is left to hear of a failure.
            task.exception()
        raise


@contextmanager
def _answering() -> Iterator[None]:
    """Raise DatabaseUnavailable where a server does not answer, or has no connection to spare for long."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError) as error:
        # SQLAlchemy's own words would hold the statement's values.
        reason = error.orig if isinstance(error, DBAPIError) else error
        _log.warning("the database does not answer", reason=str(reason).strip())
        raise DatabaseUnavailable from error


async def _settle(writer: _Lane, batch: list[_Waiting]) -> None:
    """Run the batch in one transaction and hand every caller its own result or exception."""
    try:
        outcomes = await writer.run(lambda connection: _run_all(connection, [waiting.unit for waiting in batch]))
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
