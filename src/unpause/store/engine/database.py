"""Which thread and which transaction a piece of work on the database runs in.

Work comes as a *unit*: a plain function of a SQLAlchemy connection. On PostgreSQL a unit runs in a transaction of its
own through the async engine. On SQLite a unit is handed whole to the thread of a connection, because a hop
between threads for every statement costs several times what the statement does. Units that wait while a commit is under
way share the next one (group commit): all of them on SQLite, which has one writer anyway, and on PostgreSQL those that
only append to a run.

The order of locks, from the first to the last, so that no two transactions wait for one another:

1. the Idempotency-Key, by inserting it;
2. the session: by a create (which touches its row), or by whoever deletes it;
3. the run, FOR UPDATE: by whoever answers, moves or deletes it; several of one session in the order of their ids;
4. what the run is made of: requirements, approvals, calls, events, and webhooks to send.

An executor locks nothing but its run and what that is made of. Sweeps and claims pass over what is locked. A lock of an
organization (``lock_organization``, ``has_room``) comes before all others, and nothing that holds a run takes one.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar
from urllib.parse import unquote

from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError

from unpause.errors import InvalidSetting, ShuttingDown
from unpause.settings import DEFAULT_LOCK_SECONDS
from unpause.store.engine.postgres import DEFAULT_IDLE_SECONDS, PostgresStorage
from unpause.store.engine.sqlite import SqliteStorage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager


T = TypeVar("T")

__all__ = ["URL", "Connection", "Database", "database_file", "parse_url", "secrets_in_url"]

_CONNECTIONS = 10
_SHORTEST_SECRET = 4


class Storage(Protocol):
    """What a kind of database has to offer."""

    def opened(self) -> AbstractAsyncContextManager[None]:
        """Hold the connections for the length of the block."""
        ...

    async def write(self, unit: Callable[[Connection], T], *, waits: bool = True) -> T:
        """Run ``unit`` in a transaction."""
        ...

    async def append(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit``, which locks only rows of one run that nobody else writes, in a transaction."""
        ...

    async def read(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit`` on one snapshot."""
        ...


def parse_url(database_url: str) -> URL:
    """Return the parsed URL; raise InvalidSetting unless it names a database and driver served here."""
    try:
        url = make_url(database_url)
    except (ValueError, ArgumentError) as error:
        raise InvalidSetting(
            f"database_url cannot be read ({type(error).__name__}); it looks like sqlite:///unpause.db"
        ) from None
    if url.drivername == "sqlite+aiosqlite":
        # As it was written while that driver was in use.
        url = url.set(drivername="sqlite")
    if url.drivername not in {"sqlite", "postgresql+psycopg"}:
        raise InvalidSetting(
            f"database_url: {url.drivername} is not supported; use sqlite:///FILE or postgresql+psycopg://…"
        )
    if url.drivername == "sqlite" and url.database in {None, "", ":memory:"}:
        raise InvalidSetting("database_url: SQLite needs a file; what lives in memory would not survive a restart")
    return url


def secrets_in_url(database_url: str) -> list[str]:
    """Return the password in the URL as it is written there and as it is meant; none where there is none.

    One with an unescaped ``@`` counts to the last: what of it was taken for the host is a secret, too.
    """
    authority = database_url.partition("://")[2].partition("?")[0]
    written = authority.rpartition("@")[0].partition(":")[2]
    texts = (written, *written.split("@"))
    # What is shorter protects nothing, and would be found in other words.
    return [text for text in dict.fromkeys((*texts, *map(unquote, texts))) if len(text) >= _SHORTEST_SECRET]


def database_file(database_url: str) -> Path | None:
    """Return the SQLite file the URL names, or None for a server database."""
    url = parse_url(database_url)
    if url.drivername != "sqlite" or url.database is None:
        return None
    return Path(url.database)


class Database:
    """The one way to the database. Open it with ``async with database.opened():``."""

    def __init__(
        self,
        database_url: str,
        connections: int = _CONNECTIONS,
        lock_seconds: float = DEFAULT_LOCK_SECONDS,
        idle_seconds: float = DEFAULT_IDLE_SECONDS,
    ) -> None:
        """Name the database, without connecting to it.

        ``lock_seconds`` is how long a request waits for what another transaction has locked; ``idle_seconds`` how long
        PostgreSQL keeps a transaction open in which nothing happens, such as that of a process that froze.
        """
        self.url = parse_url(database_url)
        self.is_sqlite = self.url.drivername == "sqlite"
        self._storage: Storage = (
            SqliteStorage(self.url, lock_seconds)
            if self.is_sqlite
            else PostgresStorage(self.url, connections, lock_seconds, idle_seconds)
        )
        self._is_open = False

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Database]:
        """Hold the connections for the length of the block."""
        async with self._storage.opened():
            self._is_open = True
            try:
                yield self
            finally:
                self._is_open = False

    async def write(self, unit: Callable[[Connection], T], *, waits: bool = True) -> T:
        """Run ``unit`` in a transaction and return its result once that is on disk.

        A unit that raises changes nothing, and its exception is raised here. One that was begun is not broken off when
        its caller is cancelled: what the caller writes next may build on it. It may be run more than once, until it
        fits in with what others do.

        Raises DatabaseUnavailable where the database is away; then the unit may or may not have been committed. Raises
        DatabaseBusy where a lock is in the way for too long, and Collision where others did the same: nothing changed.
        With ``waits`` False that is so after a moment: for what is tried again anyway.
        """
        if not self._is_open:
            raise ShuttingDown
        return await self._storage.write(unit, waits=waits)

    async def append(self, unit: Callable[[Connection], T]) -> T:
        """Do the same with a unit that locks no row but those of one run that nobody else writes.

        However long a lock is in its way, it is tried again, without holding up the others.
        """
        if not self._is_open:
            raise ShuttingDown
        return await self._storage.append(unit)

    async def read(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit`` on one consistent snapshot, beside the writers."""
        if not self._is_open:
            raise ShuttingDown
        return await self._storage.read(unit)
