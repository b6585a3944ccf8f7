"""A database that takes connections and says nothing, as one does whose machine is frozen, counts as away."""

from __future__ import annotations

import asyncio
import socket

from unpause.errors import DatabaseUnavailable
from unpause.store.engine.database import Database
from unpause.store.run_queue import read_clock


async def test_a_database_that_does_not_answer_in_time_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://somebody@127.0.0.1:{silent.getsockname()[1]}/nothing"
        async with Database(url).opened() as database:
            failures = await asyncio.gather(
                database.read(read_clock), database.write(read_clock), return_exceptions=True
            )
    assert [type(failure) for failure in failures] == [DatabaseUnavailable] * 2
