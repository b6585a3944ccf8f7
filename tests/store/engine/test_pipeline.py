"""What PostgreSQL's pipeline mode must not change: a lost connection costs one error, and no more."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.databases import PostgresServer
from tests.support.outages import cut
from unpause.domain.principal import Visibility
from unpause.domain.runs import RunRef
from unpause.errors import DatabaseUnavailable
from unpause.store.engine.database import Connection, Database
from unpause.store.runs import find_run


def read(connection: Connection) -> None:
    """Execute a statement that passes through the pipeline."""
    find_run(connection, Visibility(1), RunRef(id=1))


async def test_one_error_replaces_all_connections_that_were_cut(postgres: PostgresServer, postgres_url: str) -> None:
    async with Database(postgres_url, connections=4).opened() as database:
        await asyncio.gather(*(database.read(read) for _ in range(4)))
        assert cut(postgres, postgres_url) >= 4
        with pytest.raises(DatabaseUnavailable):
            await database.read(read)
        await asyncio.gather(*(database.read(read) for _ in range(8)))
