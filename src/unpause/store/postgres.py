"""PostgreSQL: each unit in a transaction of its own, but what executing runs append shares commits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import DBAPIError, OperationalError, PendingRollbackError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from unpause.errors import DatabaseUnavailable
from unpause.store.batches import Batches, outlast
from unpause.store.json import dump_json, load_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from sqlalchemy.engine import URL, Connection

T = TypeVar("T")

_APPENDERS = 2
_CONNECT_SECONDS = 5
_POOL_SECONDS = 5.0
# No prepared statements: a pooler in transaction mode would hand them to somebody else.
# By the name PostgreSQL tells our connections from other programs' on the same database.
APPLICATION = "unpause"
CONNECTION: Mapping[str, Any] = MappingProxyType(
    {"prepare_threshold": None, "connect_timeout": _CONNECT_SECONDS, "application_name": APPLICATION}
)
# SQLSTATE classes that say that the server is not there, is stopping, or takes no more connections.
_AWAY = ("08", "53300", "57P0")


def postgres_engine(url: URL, connections: int) -> AsyncEngine:
    """Return an engine that fits behind a pooler in transaction mode: no prepared statements are left behind."""
    return create_async_engine(
        url,
        # What a statement was given, such as a webhook's address, is not for logs.
        hide_parameters=True,
        json_serializer=dump_json,
        json_deserializer=load_json,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=_POOL_SECONDS,
        pool_use_lifo=True,
        connect_args=CONNECTION,
    )


@dataclass(frozen=True, slots=True)
class _Lane:
    engine: AsyncEngine

    async def run(self, work: Callable[[Connection], T]) -> T:
        with database_errors():
            async with self.engine.begin() as connection:
                return await connection.run_sync(work)


class PostgresStorage:
    """A server that many processes share."""

    def __init__(self, url: URL, connections: int) -> None:
        self._lane = _Lane(postgres_engine(url, connections))
        # Its default shows each statement what was committed before it, which is not one moment.
        self._snapshots = _Lane(self._lane.engine.execution_options(isolation_level="REPEATABLE READ"))
        self._batches = Batches()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold the connections and the appenders' tasks for the length of the block; what is under way finishes."""
        tasks = [
            asyncio.create_task(self._batches.write_all(self._lane), name=f"database appender {number}")
            for number in range(_APPENDERS)
        ]
        try:
            yield
        finally:
            self._batches.finish()
            await asyncio.gather(*tasks)
            await self._lane.engine.dispose()

    async def write(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit`` in a transaction of its own, to its end even when the caller is cancelled."""
        return await _to_the_end(self._lane.run(unit))

    async def append(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit``, which locks no row but those of its own run, in a transaction shared with others."""
        return await self._batches.add(unit)

    async def read(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit`` on one snapshot, to its end too: a connection that is cut off in between is lost to the pool."""
        return await _to_the_end(self._snapshots.run(unit))


async def _to_the_end(transaction: Coroutine[Any, Any, T]) -> T:
    task = asyncio.create_task(transaction, name="database transaction")
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        # What the caller does next may build on this.
        await outlast(task)
        raise


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn what says that the database is away into DatabaseUnavailable; let everything else through."""
    try:
        yield
    except DBAPIError as error:
        state = str(getattr(error.orig, "sqlstate", None) or "")
        # Without a state nobody answered: refused, lost, or not heard of in time.
        connecting = not state and isinstance(error, OperationalError)
        if error.connection_invalidated or connecting or state.startswith(_AWAY):
            raise DatabaseUnavailable from error
        raise
    except (PoolTimeout, PendingRollbackError, OSError) as error:
        # A pending rollback: the connection was lost within the transaction, and somebody tried to go on in it, such as
        # to roll one unit of a batch back.
        raise DatabaseUnavailable from error
