"""Statements that PostgreSQL has prepared: what becomes of them costs no request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from sqlalchemy import Connection

from tests.support.databases import MIGRATED, PostgresServer, new_run
from tests.support.pooler import pooler
from tests.support.standby import postgres_instance
from unpause.domain.principal import Visibility
from unpause.domain.runs import RunRef
from unpause.errors import StorageError
from unpause.store.engine import migrate
from unpause.store.engine.database import Database
from unpause.store.engine.pipeline import Pipeline
from unpause.store.engine.statements import DRIVER, flush, send_text
from unpause.store.runs import find_run

MOST = 200


def look(connection: Connection) -> int:
    """Execute a statement that passes through the pipeline; return the process that served it."""
    find_run(connection, Visibility(1), RunRef(id=1))
    return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def prepared(connection: Connection) -> list[str]:
    """Return the texts of the statements that this connection has prepared."""
    found = connection.exec_driver_sql("SELECT statement FROM pg_prepared_statements ORDER BY prepare_time")
    return [str(text) for text in found.scalars()]


def deallocate(connection: Connection) -> None:
    """Have the server forget them, as where it is another one behind a pooler."""
    connection.exec_driver_sql("DEALLOCATE ALL")


def mistake_for_another_client(connection: Connection) -> None:
    """Forget what is prepared, though the server has it, as where another client did so behind a pooler."""
    connection.info[DRIVER] = Pipeline(connection.connection.driver_connection)  # type: ignore[arg-type] # SQLAlchemy has no type of it


def change_a_column(connection: Connection) -> None:
    """Do what a migration may do while older nodes run."""
    connection.exec_driver_sql("ALTER TABLE runs ALTER COLUMN model TYPE text")


LOSSES: dict[str, Callable[[Connection], None]] = {
    "they are gone": deallocate,
    "they are another client's": mistake_for_another_client,
    "a column's type has changed": change_a_column,
}


@pytest.fixture
def own_url(postgres: PostgresServer) -> Iterator[str]:
    """Yield a database whose schema may be changed."""
    with postgres.database(MIGRATED) as url:
        yield url


async def test_a_statement_is_prepared_once_for_a_connection(postgres_url: str) -> None:
    async with Database(postgres_url, connections=1).opened() as database:
        for _ in range(3):
            await database.read(look)
        texts = await database.query(prepared)
    assert [text for text in texts if "FROM runs" in text]
    assert len(texts) == len(set(texts))


async def test_one_statement_is_prepared_for_whole_numbers_of_any_size(postgres_url: str) -> None:
    async with Database(postgres_url, connections=1).opened() as database:
        for key in (1, 2**15, 2**31):
            await database.query(partial(find_run, visibility=Visibility(1), ref=RunRef(id=key)))
        texts = await database.query(prepared)
    assert len([text for text in texts if "FROM runs" in text]) == 1


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_transaction_is_run_again_when_prepared_statements_are_lost(own_url: str, loss: str) -> None:
    async with Database(own_url, connections=1).opened() as database:
        process = await database.write(look)
        for work in (database.write, database.read, database.append, database.execute, database.query):
            await database.query(LOSSES[loss])
            assert await work(look) == process, "nor is the connection replaced"


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_batch_is_run_again_when_prepared_statements_are_lost(own_url: str, loss: str) -> None:
    async with Database(own_url, connections=1).opened() as database:
        process = await database.write(look)
        await asyncio.gather(*(database.append(look) for _ in range(3)))
        await database.query(LOSSES[loss])
        assert await asyncio.gather(*(database.append(look) for _ in range(3))) == [process] * 3


async def test_what_a_transaction_wrote_before_it_is_run_again_is_there_once(own_url: str) -> None:
    async def add(database: Database) -> int:
        return await database.write(lambda connection: new_run(connection).id)

    def count(connection: Connection) -> int:
        return int(connection.exec_driver_sql("SELECT count(*) FROM runs").scalar_one())

    async with Database(own_url, connections=1).opened() as database:
        await add(database)
        await database.query(change_a_column)
        await add(database)
        assert await database.query(count) == 2


async def test_where_they_are_another_clients_nothing_is_prepared_any_more(postgres_url: str) -> None:
    async with Database(postgres_url, connections=1).opened() as database:
        await database.read(look)
        await database.query(deallocate)
        await database.read(look)
        await database.read(look)
        assert await database.query(prepared) == []


async def test_a_changed_column_has_statements_prepared_anew(own_url: str) -> None:
    async with Database(own_url, connections=1).opened() as database:
        await database.read(look)
        await database.query(change_a_column)
        await database.read(look)
        assert [text for text in await database.query(prepared) if "FROM runs" in text]


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE runs ALTER COLUMN model TYPE text",
        "ALTER TABLE runs ALTER COLUMN summary TYPE varchar(10000)",
        "ALTER TABLE runs ALTER COLUMN metadata TYPE jsonb USING metadata::jsonb",
        "ALTER TABLE sessions ALTER COLUMN session_state TYPE jsonb USING session_state::jsonb",
        "ALTER TABLE runs ADD COLUMN more text",
        "ALTER TABLE sessions ADD COLUMN more text DEFAULT 'x' NOT NULL",
        "CREATE INDEX ix_more ON runs (summary)",
    ],
)
async def test_no_write_fails_while_a_migration_changes_the_tables(own_url: str, change: str) -> None:
    async def add(database: Database) -> None:
        await database.write(lambda connection: new_run(connection, metadata={"number": 1}))

    async with Database(own_url).opened() as database:
        # Each connection has prepared its statements.
        await asyncio.gather(*(add(database) for _ in range(30)))
        changing = database.query(lambda connection: connection.exec_driver_sql(change))
        await asyncio.gather(changing, *(add(database) for _ in range(30)))
        await asyncio.gather(*(add(database) for _ in range(30)))


async def test_what_was_not_reached_behind_a_failure_is_prepared_later(postgres_url: str) -> None:
    def fail(connection: Connection) -> None:
        send_text(connection, "SELECT 1 / 0")
        look(connection)

    async with Database(postgres_url, connections=1).opened() as database:
        for _ in range(2):
            with pytest.raises(StorageError):
                await database.read(fail)
        await database.read(look)


async def test_a_connection_prepares_no_more_statements_than_it_may(postgres_url: str) -> None:
    def send_many(connection: Connection) -> None:
        for number in range(MOST + 1):
            send_text(connection, f"SELECT {number}")
        flush(connection)

    async with Database(postgres_url, connections=1).opened() as database:
        await database.read(send_many)
        await database.read(look)
        assert len(await database.query(prepared)) < 10
        await database.read(look)


@pytest.mark.full
@pytest.mark.timeout(120)
async def test_a_pooler_is_recognized_and_nothing_is_prepared_behind_it() -> None:
    with postgres_instance() as postgres, pooler(postgres) as url:
        migrate.upgrade(url)
        async with Database(url, connections=1).opened() as database:
            await database.read(look)
            await database.write(look)
            assert await database.query(prepared) == []


@pytest.mark.full
@pytest.mark.timeout(120)
async def test_behind_a_pooler_that_is_not_recognized_no_work_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pipeline, "_has_own_server", lambda *_: True)
    with postgres_instance() as postgres, pooler(postgres) as url:
        migrate.upgrade(url)
        async with Database(url).opened() as database, Database(url).opened() as other:
            for _ in range(10):
                works = (database.write, database.append, other.append, other.execute, other.read)
                await asyncio.gather(*(work(look) for work in works * 6))
