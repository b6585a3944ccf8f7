"""The database: in which thread and which transaction work on it runs.

Work comes as a *unit*: a plain function of a SQLAlchemy connection. On PostgreSQL a unit runs in a transaction of its
own through the async engine. On SQLite a unit is handed whole to the thread of a connection, because a hop between
threads for every statement costs several times as much as the statement. Units that wait while a commit is under way
share the next one (group commit): all of them on SQLite, which has one writer anyway, and on PostgreSQL those that only
append to a run.

The order of locks, from the first to the last, so that no two transactions deadlock:

1. the Idempotency-Key, by inserting it;
2. the session: by a create (which touches its row), or by a delete;
3. the run, FOR UPDATE: by whatever answers, moves or deletes it; several of one session in the order of their ids;
4. the rows of the run: requirements, approvals, calls, events, and webhooks to send.

An executor locks nothing but its run and the rows of that, and against removal the webhooks and channels that it stores
messages for. Sweeps and claims skip what is locked. A lock of an organization (``lock_organization``, ``has_room``)
comes after an Idempotency-Key and before all others: nothing that holds a session or a run takes one, but for a create
near the limit of unfinished runs, which locks nothing after it.
"""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar
from urllib.parse import unquote

from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError

from unpause.errors import DatabaseBusy, DatabaseUnavailable, InvalidSetting, ShuttingDown
from unpause.lazy import LazyModule
from unpause.operator_settings import DEFAULT_IDLE_SECONDS, DEFAULT_LOCK_SECONDS
from unpause.store.engine.availability import Availability
from unpause.store.engine.changes import noting
from unpause.store.engine.servers import SECRET_PARAMETERS, split_hosts, to_the_primary
from unpause.store.engine.sqlite import SqliteStorage
from unpause.telemetry.metrics import DATABASE, DATABASE_ERRORS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from prometheus_client import Histogram

    from unpause.domain.changes import OnChanges, Outbox
    from unpause.store.engine import postgres
    from unpause.store.engine.changes import Changes
else:
    postgres = LazyModule("unpause.store.engine.postgres")

T = TypeVar("T")
P = ParamSpec("P")

__all__ = ["URL", "Connection", "Database", "database_file", "parse_url", "secrets_in_url"]

_WRITE, _APPEND, _EXECUTE, _READ = (DATABASE.labels(kind) for kind in ("write", "append", "execute", "read"))
_CONNECTIONS = 10
_SHORTEST_SECRET = 4


class Storage(Protocol):
    """What each of the two databases implements."""

    def opened(self) -> AbstractAsyncContextManager[None]:
        """Hold the connections for the length of the block."""
        ...

    async def write(self, unit: Callable[[Connection], T], then: Callable[[T], None], *, waits: bool = True) -> T:
        """Run ``unit`` in a transaction; once that is committed call ``then`` in the caller's context."""
        ...

    async def append(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit``, which locks only rows of one run that no other unit writes, in a transaction."""
        ...

    async def execute(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit``, a single statement."""
        ...

    async def query(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit``, a single query."""
        ...

    async def read(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit`` on one snapshot."""
        ...

    def count_connections(self) -> tuple[int, int]:
        """Return how many connections are in use, and the most that can be."""
        ...


def parse_url(database_url: str) -> URL:
    """Return the parsed URL; raise InvalidSetting unless it names a database and driver served here.

    One of PostgreSQL may name several servers, as libpq has it: connections are made to the one that writes.
    """
    try:
        text, hosts = split_hosts(database_url)
        url = to_the_primary(make_url(text).update_query_dict(hosts))
    except (ValueError, ArgumentError) as error:
        raise InvalidSetting(
            f"database_url cannot be read ({type(error).__name__}); it looks like sqlite:///unpause.db"
        ) from None
    if url.drivername == "sqlite+aiosqlite":
        # As it was written while that driver was in use.
        url = url.set(drivername="sqlite")
    if url.drivername not in {"sqlite", "postgresql+psycopg"}:
        raise InvalidSetting(f"database_url: {url.drivername} is not supported; use sqlite:///FILE or postgresql://…")
    if url.drivername == "sqlite":
        if url.database in {None, "", ":memory:"}:
            raise InvalidSetting("database_url: SQLite needs a file: a database in memory does not survive a restart")
        if str(url.database).startswith("~"):
            # No shell has replaced it within a URL: it would be a folder of that name.
            raise InvalidSetting(f"database_url: {url.database} is no path: write the home folder in place of ~")
        if url.query:
            # SQLAlchemy would leave out an unknown one.
            raise InvalidSetting(f"database_url: no options are read with SQLite, such as {next(iter(url.query))}")
    return url


def secrets_in_url(database_url: str) -> list[str]:
    """Return the passwords in the URL, as written and decoded; nothing where there is none.

    One with an unescaped ``@`` extends to the last ``@``: the part that was parsed as the host is a secret, too.
    """
    authority, _, query = database_url.partition("://")[2].partition("?")
    written = authority.rpartition("@")[0].partition(":")[2]
    parameters = (each.partition("=") for each in query.split("&"))
    named = (value for name, _, value in parameters if name in SECRET_PARAMETERS)
    texts = (written, *written.split("@"), *named)
    # A shorter one protects nothing, and would be found within other words.
    return [text for text in dict.fromkeys((*texts, *map(unquote, texts))) if len(text) >= _SHORTEST_SECRET]


def database_file(database_url: str) -> Path | None:
    """Return the SQLite file the URL names, or None for a server database."""
    url = parse_url(database_url)
    if url.drivername != "sqlite" or url.database is None:
        return None
    return Path(url.database)


class Database:
    """The only access to the database. Open it with ``async with database.opened():``."""

    def __init__(
        self,
        database_url: str,
        connections: int = _CONNECTIONS,
        lock_seconds: float = DEFAULT_LOCK_SECONDS,
        idle_seconds: float = DEFAULT_IDLE_SECONDS,
        on_changes: OnChanges | None = None,
        silent_seconds: float | None = None,
    ) -> None:
        """Name the database, without connecting to it.

        ``on_changes`` is called with what each committed transaction did to runs. ``silent_seconds`` is how long
        PostgreSQL may send nothing, beside what it waits for locks, to a unit from when that is passed here; then it
        counts as away.

        ``lock_seconds`` is how long a request waits for what another transaction has locked; ``idle_seconds`` how long
        PostgreSQL keeps a transaction open in which nothing happens, such as that of a process that froze.
        """
        self.url = parse_url(database_url)
        self.is_shared = self.url.drivername != "sqlite"
        """Whether other processes may use it at the same time."""
        self.silent_seconds = silent_seconds
        self._storage: Storage
        if self.is_shared:
            # SQLAlchemy's asyncio takes 6 MB, which a server on SQLite does not need.
            self._storage = postgres.PostgresStorage(self.url, connections, lock_seconds, idle_seconds, silent_seconds)
        else:
            self._storage = SqliteStorage(self.url, lock_seconds)
        self._on_changes = on_changes or (lambda _: None)
        self._deliverers: defaultdict[Outbox, set[Callable[[], None]]] = defaultdict(set)
        self.availability = Availability()
        self._is_open = False
        self._file: Path | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Database]:
        """Hold the connections for the length of the block."""
        async with self._storage.opened():
            self._note_file()
            self._is_open = True
            try:
                yield self
            finally:
                self._is_open = False

    def has_lost_its_file(self) -> bool:
        """Whether the SQLite file was moved, replaced or deleted since it was opened.

        Then what is written here is in no file of that name, and commands beside this process see another one.
        """
        if self._file is None:
            return False
        try:
            return not os.path.samestat(self._opened_file, self._file.stat())
        except OSError:
            return True

    async def write(
        self, unit: Callable[[Connection], T], then: Callable[[T], None] | None = None, *, waits: bool = True
    ) -> T:
        """Run ``unit`` in a transaction and return its result once that is on disk.

        ``then`` is called with the result before that, also where the caller was cancelled: with what others wait for.

        A unit that raises changes nothing, and its exception is raised here. One that was begun is not interrupted when
        its caller is cancelled: the caller's next write may depend on it. It may be run more than once, after a
        deadlock or a serialization failure.

        Raises DatabaseUnavailable where the database cannot be reached; then the unit may or may not have been
        committed. Raises DatabaseBusy where it waits too long for a lock, and Collision where another transaction added
        the same key: nothing changed. With ``waits`` False it waits only for a moment: for what is tried again anyway.
        """
        report = partial(self._report, then)
        result, _ = await self._checked(_WRITE, self._storage.write, noting(unit), report, waits=waits)
        return result

    async def append(self, unit: Callable[[Connection], T]) -> T:
        """Do the same with a unit that locks no row but those of one run that no other unit writes.

        It is tried again for as long as the rows are locked, without holding up other units.
        """
        return await self._checked(_APPEND, self._storage.append, unit)

    async def execute(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit``, a single statement that waits for no lock, and return its result once that is on disk."""
        return await self._checked(_EXECUTE, self._storage.execute, unit)

    async def query(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit``, a single query: what an idle process does most, so it costs half of what ``read`` does."""
        return await self._checked(_READ, self._storage.query, unit)

    async def read(self, unit: Callable[[Connection], T]) -> T:
        """Run ``unit`` on one consistent snapshot, beside the writers."""
        return await self._checked(_READ, self._storage.read, unit)

    @contextmanager
    def waking(self, wake: Callable[[], None], outbox: Outbox) -> Iterator[None]:
        """During the block call ``wake`` after each commit of this process that adds to the outbox."""
        self._deliverers[outbox].add(wake)
        try:
            yield
        finally:
            self._deliverers[outbox].discard(wake)

    def count_connections(self) -> tuple[int, int]:
        """Return how many connections of this process are in use, and the most that can be."""
        return self._storage.count_connections()

    def _note_file(self) -> None:
        if not self.is_shared:
            # Absolute: an agent in this process may change the working folder.
            self._file = Path(str(self.url.database)).absolute()
            self._opened_file = self._file.stat()

    async def _checked(
        self, seconds: Histogram, work: Callable[P, Awaitable[T]], *args: P.args, **options: P.kwargs
    ) -> T:
        """Do the work of the storage, and note whether the database answers and how long it takes."""
        if not self._is_open:
            raise ShuttingDown
        began = perf_counter()
        try:
            result = await work(*args, **options)
        except (DatabaseUnavailable, DatabaseBusy) as error:
            DATABASE_ERRORS.labels("away" if isinstance(error, DatabaseUnavailable) else "busy").inc()
            if isinstance(error, DatabaseUnavailable):
                self.availability.note_away(error, began)
            raise
        seconds.observe(perf_counter() - began)
        if self.availability.is_away:
            self.availability.note_back()
        return result

    def _report(self, then: Callable[[T], None] | None, outcome: tuple[T, Changes]) -> None:
        result, changes = outcome
        if then is not None:
            then(result)
        if changes.runs:
            self._on_changes(changes.runs)
        for outbox in changes.outboxes:
            for wake in self._deliverers[outbox]:
                wake()
