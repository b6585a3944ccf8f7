"""PostgreSQL answers that are no success, or no failure of ours: each is the database being away for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from psycopg.sql import SQL, Identifier
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from tests.support.databases import MIGRATED, PostgresServer
from unpause.errors import DatabaseUnavailable, StorageError
from unpause.store.engine.database import Database
from unpause.store.engine.statements import send_text

# As the commit's own warning after a wait for a synchronous standby that was cancelled.
_WARNS_AT_COMMIT = """
CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE WARNING 'canceling wait for synchronous replication due to user request'; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER warns AFTER INSERT ON rate_counts DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION warn();
"""
_FAILS_AT_COMMIT = """
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'too late'; END $$;
CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON rate_counts DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION fail();
"""


def count(connection: Connection) -> None:
    connection.execute(text("INSERT INTO rate_counts VALUES ('a', 1, now())"))


def counts(connection: Connection) -> int:
    return int(connection.execute(text("SELECT count(*) FROM rate_counts")).scalar_one())


async def test_a_commit_that_the_standby_may_lack_is_no_success(postgres_url: str) -> None:
    database = Database(postgres_url)
    async with database.opened():
        await database.write(lambda connection: connection.exec_driver_sql(_WARNS_AT_COMMIT) and None)
        for write in (database.write, database.append):
            with pytest.raises(DatabaseUnavailable):
                await write(count)
            await database.write(lambda connection: connection.execute(text("DELETE FROM rate_counts")) and None)
        assert await database.read(counts) == 0
        # Another test gets this database.
        await database.write(lambda connection: connection.exec_driver_sql("DROP FUNCTION warn CASCADE") and None)


async def test_a_server_that_takes_no_writes_any_more_is_away_and_left(postgres: PostgresServer) -> None:
    with postgres.migrated_database() as url:
        name = Identifier(make_url(url).database or "")
        database = Database(url)
        async with database.opened():
            postgres.execute(SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
            await asyncio.gather(*(database.read(counts) for _ in range(3)))
            with pytest.raises(DatabaseUnavailable):
                await database.write(count)
            postgres.execute(SQL("ALTER DATABASE {} RESET ALL").format(name))
            # On a connection that was made since.
            await database.write(count)
            assert await database.read(counts) == 1


async def test_a_statement_whose_own_commit_fails_is_no_success(postgres: PostgresServer) -> None:
    def add(connection: Connection) -> None:
        send_text(connection, "INSERT INTO rate_counts VALUES ('a', 1, now())")

    with postgres.database(MIGRATED) as url:
        database = Database(url)
        async with database.opened():
            await database.write(lambda connection: connection.exec_driver_sql(_FAILS_AT_COMMIT) and None)
            # What fails comes behind the answer to the statement.
            with pytest.raises(StorageError):
                await database.execute(add)
            assert await database.read(counts) == 0


@contextmanager
def few_connections(postgres: PostgresServer, url: str, most: int) -> Iterator[str]:
    """Yield the URL of a user that may have so many connections."""
    name = f"few_{uuid4().hex[:8]}"
    postgres.execute(SQL("CREATE ROLE {} LOGIN CONNECTION LIMIT {}").format(Identifier(name), SQL(str(most))))
    try:
        yield make_url(url).set(username=name).render_as_string(hide_password=False)
    finally:
        postgres.execute(SQL("DROP ROLE {}").format(Identifier(name)))


async def test_where_the_server_takes_no_more_connections_work_waits_for_those_that_there_are(
    postgres: PostgresServer,
) -> None:
    def look(connection: Connection) -> int:
        return int(connection.execute(text("SELECT 1 FROM pg_sleep(0.05)")).scalar_one())

    with postgres.migrated_database() as url, few_connections(postgres, url, 2) as limited:
        database = Database(limited)
        async with database.opened():
            assert await asyncio.gather(*(database.read(look) for _ in range(10))) == [1] * 10
            assert not database.availability.is_away
