"""SQLite: units run whole in the thread of an aiosqlite connection; one writer, a few readers beside it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.engine import Connection, create_engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from unpause.errors import ShuttingDown
from unpause.store.engine.failures import LockTimeout, database_errors
from unpause.store.engine.group_commit import GroupCommit
from unpause.store.json import dump_json, load_json
from unpause.tasks import VitalTask, background_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sqlalchemy.engine import URL

T = TypeVar("T")

_READERS = 4


class _Lane:
    """One aiosqlite connection, and a plain SQLAlchemy connection on the same SQLite handle in its thread."""

    def __init__(self, owner: AsyncConnection, driver: Any, begin: str, busy_seconds: float) -> None:  # noqa: ANN401 - aiosqlite is untyped here
        self._busy_milliseconds = round(busy_seconds * 1000)
        self._owner = owner
        self._driver = driver
        self._begin = begin
        self._connection: Connection | None = None

    @classmethod
    async def open(cls, engine: AsyncEngine, begin: str, busy_seconds: float) -> _Lane:
        """Check a connection out of the engine's pool for the lane's life."""
        owner = await engine.connect()
        raw = await owner.get_raw_connection()
        lane = cls(owner, raw.driver_connection, begin, busy_seconds)
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
            f"busy_timeout={self._busy_milliseconds}",
        ):
            handle.execute(f"PRAGMA {pragma}").close()
        engine = create_engine(
            "sqlite://",
            creator=lambda: handle,
            poolclass=StaticPool,
            # What a statement was given, such as a webhook's address, is not for logs.
            hide_parameters=True,
            json_serializer=dump_json,
            json_deserializer=load_json,
        )
        self._connection = engine.connect()

    def _transact(self, work: Callable[[Connection], T]) -> T:
        if self._connection is None:
            raise ShuttingDown
        try:
            self._begin_transaction()
            with database_errors(), self._connection.begin():
                return work(self._connection)
        finally:
            # A commit that fails leaves the transaction open, though SQLAlchemy takes it for ended.
            if self._handle.in_transaction:
                self._handle.rollback()

    def _begin_transaction(self) -> None:
        # The driver's own transaction handling is off, so that a writer takes its lock at once and not half-way.
        try:
            self._handle.execute(self._begin)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            # Such as an open transaction in the sqlite3 shell.
            raise LockTimeout from error

    def _disconnect(self) -> None:
        # The handle belongs to aiosqlite, which closes it: only SQLAlchemy's view of it ends here.
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class SqliteStorage:
    """One file: all units that wait while a commit is under way share the next one."""

    def __init__(self, url: URL, busy_seconds: float) -> None:
        self._busy_seconds = busy_seconds
        self._engine = create_async_engine(url, pool_size=_READERS + 1, max_overflow=0, hide_parameters=True)
        self._readers: asyncio.Queue[_Lane] = asyncio.Queue()
        self._batches = GroupCommit(database_errors)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold the connections and the writer's task for the length of the block; what is under way finishes."""
        lanes = [await _Lane.open(self._engine, "BEGIN", self._busy_seconds) for _ in range(_READERS)]
        for lane in lanes:
            self._readers.put_nowait(lane)
        writer = await _Lane.open(self._engine, "BEGIN IMMEDIATE", self._busy_seconds)
        async with background_tasks() as tasks:
            writing = VitalTask(tasks, self._batches.write_all(writer), "database writer")
            try:
                yield
            finally:
                self._batches.finish()
                await VitalTask.finish(writing)
                for _ in lanes:
                    await (await self._readers.get()).close()
                await writer.close()
                await self._engine.dispose()

    async def write(self, unit: Callable[[Connection], T], *, waits: bool = True) -> T:
        """Run ``unit`` with the next commit."""
        del waits  # One writer: whoever waits, waits for all.
        return await self._batches.add(unit)

    async def append(self, unit: Callable[[Connection], T]) -> T:
        """Do the same as ``write``."""
        return await self._batches.add(unit)

    async def read(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit`` on one snapshot, beside the writer."""
        lane = await self._readers.get()
        try:
            return await lane.run(unit)
        finally:
            self._readers.put_nowait(lane)
