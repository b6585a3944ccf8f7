"""PostgreSQL: each unit in a transaction of its own, but what executing runs append shares commits."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from random import uniform
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool
from sqlalchemy.util import greenlet_spawn

from unpause.domain.json import dump_json, load_json
from unpause.errors import DatabaseBusy
from unpause.store.engine.failures import (
    READ_ONLY,
    LockTimeout,
    TooManyConnections,
    TransactionAborted,
    database_errors,
)
from unpause.store.engine.group_commit import GroupCommit
from unpause.store.engine.pipeline import Pipeline, give_up_pool
from unpause.store.engine.prepared import StatementsOutdated
from unpause.store.engine.servers import connection_arguments
from unpause.store.engine.silence import connecting, current_moment
from unpause.store.engine.statements import DRIVER, flush
from unpause.tasks import UninterruptedTasks, VitalTask, background_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from sqlalchemy.engine import URL, Connection

    from unpause.store.engine.silence import AsyncLimitedConnection

T = TypeVar("T")

_APPENDERS = 2
_POOL_SECONDS = 5.0
# Between tries to connect to a server that has no connection free.
_CROWDED_SECONDS = (0.1, 0.3)
# Long enough for what other transactions of ours do to a row, short enough that the connection is not missed.
_LOCK_SECONDS = 0.1
# How often a transaction is retried that the database aborted in favour of another, and how long it waits before that.
_CLASHES = 5
_CLASH_SECONDS = (0.005, 0.05)
# One of so many connections, and at least one, may wait for locks: whatever is locked, the others stay free.
_WAITER_OF = 4


def begin_statements(idle_seconds: float, isolation: str = "READ COMMITTED") -> tuple[str, str]:
    """Return a BEGIN with limits: a short wait for a lock, and how long the transaction may be left idle.

    PostgreSQL itself ends an idle one, whose process froze or whose machine was suspended, and frees what it locked.

    The limits come with the BEGIN, in one round trip, and end with the transaction. So they hold behind a pooler, too,
    which hands a server's connection to another client after each transaction. The driver has to be in autocommit mode,
    so that it sends no BEGIN of its own.
    """
    idle = f"set_config('idle_in_transaction_session_timeout', '{_milliseconds(idle_seconds)}', true)"
    return (
        f"BEGIN ISOLATION LEVEL {isolation}",
        f"SELECT set_config('lock_timeout', '{_milliseconds(_LOCK_SECONDS)}', true), {idle}",
    )


def _milliseconds(seconds: float) -> int:
    # At least one: zero would be no limit.
    return max(1, round(seconds * 1000))


def _create_engine(url: URL, connections: int, silent_seconds: float | None) -> AsyncEngine:
    engine = create_async_engine(
        url,
        isolation_level="AUTOCOMMIT",
        # Parameters of a statement, such as the URL of a webhook, must not reach the logs.
        hide_parameters=True,
        json_serializer=dump_json,
        json_deserializer=load_json,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=_POOL_SECONDS,
        pool_use_lifo=True,
        connect_args={**connection_arguments(url), "async_creator_fn": connecting(silent_seconds)},
    )
    # A statement that SQLAlchemy executes comes after all that were sent before it.
    event.listen(engine.sync_engine, "before_cursor_execute", _flush_first)
    return engine


def _flush_first(connection: Connection, cursor: object, *_: object) -> None:
    # Without a cursor it is one that passes through the pipeline.
    if cursor is not None:
        flush(connection)


@dataclass(frozen=True, slots=True)
class _Lane:
    engine: AsyncEngine
    # How long a server may be silent while no lock is waited for.
    silent_seconds: float | None
    # Empty for single statements, each of which is a transaction by itself.
    begin: tuple[str, ...] = ()

    async def run(self, work: Callable[[Connection], T], since: float | None = None) -> T:
        """Run ``work`` in a transaction; what it has waited ``since`` then counts as the server's silence."""
        since = current_moment() if since is None else since
        end = monotonic() + _POOL_SECONDS
        while True:
            try:
                with database_errors():
                    # All in one greenlet; SQLAlchemy's AsyncConnection makes seven.
                    return await greenlet_spawn(self._run, work, since)
            except StatementsOutdated:
                # They are prepared anew.
                if monotonic() > end:
                    raise
                continue
            except TooManyConnections:
                # One of those that there are will be free.
                if monotonic() > end:
                    raise
            await asyncio.sleep(uniform(*_CROWDED_SECONDS))  # noqa: S311 - only not all at once

    def _run(self, work: Callable[[Connection], T], since: float) -> T:
        with self.engine.sync_engine.begin() as connection:
            return self._transact(connection, work, since)

    def _transact(self, connection: Connection, work: Callable[[Connection], T], since: float) -> T:
        pipeline = _pipeline_of(connection)
        driver = _driver_of(connection)
        driver.longest_silence, driver.silent_since = self.silent_seconds, since
        try:
            pipeline.begin(connection, self.begin)
            result = work(connection)
            if self.begin:
                # With what was sent last; SQLAlchemy's own commit then has nothing to do.
                pipeline.commit(connection)
            else:
                pipeline.flush(connection)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == READ_ONLY:
                # Another server may be the primary now.
                give_up_pool(connection)
            raise
        finally:
            pipeline.forget()
        return result

    async def run_again(self, work: Callable[[Connection], T]) -> T:
        """Do the same, and retry where the transaction was aborted in favour of another; raise DatabaseBusy at last."""
        for _ in range(_CLASHES):
            try:
                return await self.run(work)
            except TransactionAborted:
                await asyncio.sleep(uniform(*_CLASH_SECONDS))  # noqa: S311 - only not all at once
        return await self.run(work)


def _pipeline_of(connection: Connection) -> Pipeline:
    pipeline = connection.info.get(DRIVER)
    if pipeline is None:
        pipeline = connection.info[DRIVER] = Pipeline(_driver_of(connection))
    return pipeline


def _driver_of(connection: Connection) -> AsyncLimitedConnection:
    return cast("AsyncLimitedConnection", connection.connection.driver_connection)


class PostgresStorage:
    """A server that many processes share.

    A transaction waits for locks for a moment only. What may wait for longer does so on a few of the connections, so
    that a row that stays locked, such as by an open transaction in psql, stops only what needs that row.
    """

    def __init__(
        self, url: URL, connections: int, lock_seconds: float, idle_seconds: float, silent_seconds: float | None
    ) -> None:
        self._lock_seconds = lock_seconds
        self._waiters = asyncio.Semaphore(max(1, connections // _WAITER_OF))
        engine = _create_engine(url, connections, silent_seconds)
        # SQLAlchemy's own type of it, of which it is always one here.
        self._pool = cast("QueuePool", engine.sync_engine.pool)
        self._lane = _Lane(engine, silent_seconds, begin_statements(idle_seconds))
        # By default each statement reads what was committed before it, which is no consistent snapshot.
        self._snapshots = _Lane(engine, silent_seconds, begin_statements(idle_seconds, "REPEATABLE READ"))
        self._statements = _Lane(engine, silent_seconds)
        self._batches = GroupCommit(database_errors, current_moment)
        self._transactions = UninterruptedTasks()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold the connections and the appenders' tasks for the length of the block; what is under way finishes."""
        async with background_tasks() as tasks:
            writers = [
                VitalTask(tasks, self._batches.write_all(self._lane), f"database appender {number}")
                for number in range(_APPENDERS)
            ]
            writers.append(VitalTask(tasks, self._batches.write_blocked(self._lane), "database straggler"))
            try:
                yield
            finally:
                self._batches.finish()
                await VitalTask.finish(*writers)
                await self._transactions.finish()
                await self._lane.engine.dispose()

    async def write(self, unit: Callable[[Connection], T], then: Callable[[T], None], *, waits: bool = True) -> T:
        """Run ``unit`` in a transaction of its own, to its end even when the caller is cancelled."""
        work = self._run(self._lane, unit) if waits else self._lane.run_again(unit)
        return await self._transactions.run(_followed(work, then), "database transaction")

    async def append(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit``, which locks no row but those of its own run, in a transaction shared with others."""
        return await self._batches.add(unit)

    async def execute(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit``, which is a single statement: in one round trip in place of three."""
        return await self._transactions.run(self._statements.run(unit), "database statement")

    async def query(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit``, which is a single query and its own snapshot."""
        return await self.execute(unit)

    async def read(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit`` on one snapshot, to its end too: an interrupted connection is lost to the pool."""
        return await self._transactions.run(self._run(self._snapshots, unit), "database transaction")

    def count_connections(self) -> tuple[int, int]:
        """Return how many connections of the pool are in use, and its size."""
        return self._pool.checkedout(), self._pool.size()

    async def _run(self, lane: _Lane, unit: Callable[[Connection], T]) -> T:
        """Run ``unit``; where it needs a lock wait for it, with few others, and raise DatabaseBusy at last."""
        end = monotonic() + self._lock_seconds
        try:
            return await lane.run_again(unit)
        except LockTimeout:
            # Waiting for the semaphore takes no connection.
            try:
                async with asyncio.timeout(end - monotonic()):
                    await self._waiters.acquire()
            except TimeoutError:
                raise DatabaseBusy from None
        try:
            return await lane.run_again(partial(_wait_longer, unit, end))
        finally:
            self._waiters.release()


async def _followed(work: Coroutine[Any, Any, T], then: Callable[[T], None]) -> T:
    result = await work
    then(result)
    return result


def _wait_longer(unit: Callable[[Connection], T], end: float, connection: Connection) -> T:
    seconds = end - monotonic()
    driver = _driver_of(connection)
    if driver.longest_silence is not None:
        # It is silent as well while a statement waits for a lock.
        driver.longest_silence += max(0.0, seconds)
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {_milliseconds(seconds)}")
    return unit(connection)
