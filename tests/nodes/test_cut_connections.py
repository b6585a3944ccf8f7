"""A connection that is lost within a transaction is the database being away, whatever SQLAlchemy calls it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from tests.support.databases import PostgresServer
from unpause.errors import DatabaseUnavailable
from unpause.store.engine.database import Database


def cut(connection: Connection) -> None:
    """Have the server end this very connection."""
    connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))


def cut_and_go_on(connection: Connection) -> None:
    with suppress(DBAPIError):
        cut(connection)


def look(connection: Connection) -> int:
    return int(connection.execute(text("SELECT 1")).scalar_one())


async def test_all_whose_units_shared_a_lost_transaction_are_told_that_the_database_was_away(
    postgres: PostgresServer,
) -> None:
    with postgres.migrated_database() as url:
        database = Database(url)
        async with database.opened():
            # The first two keep the lanes busy, so that the others share a transaction.
            units = (look, look, look, cut, look)
            told = await asyncio.gather(*(database.append(unit) for unit in units), return_exceptions=True)
            assert {type(one) for one in told} <= {int, DatabaseUnavailable}
            assert isinstance(told[3], DatabaseUnavailable)
            for write in (database.write, database.read):
                with pytest.raises(DatabaseUnavailable):
                    await write(cut_and_go_on)
            assert await database.append(look) == 1
