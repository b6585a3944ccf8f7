"""Somebody who waits for a write is cancelled: what was begun is finished before they go on."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import suppress

import pytest
from sqlalchemy import Connection

from tests.support.databases import Place, new_run
from unpause.store.engine.database import Database

_TURNS = range(1, 40)


async def test_a_write_that_was_begun_is_on_disk_before_the_next_one_of_its_caller(database_url: str) -> None:
    seen: list[int] = []

    def count_runs(connection: Connection) -> None:
        seen.append(connection.exec_driver_sql("SELECT count(*) FROM runs").scalar_one())

    async with Database(database_url).opened() as database:
        for turns in _TURNS:
            writing = asyncio.create_task(database.write(new_run))
            for _ in range(turns):
                await asyncio.sleep(0)  # cancelled later by one turn each time
            writing.cancel()
            with suppress(asyncio.CancelledError):
                await writing
            await database.write(count_runs)
    assert seen == list(_TURNS)
    assert Place(database_url).counted()["runs"] == len(_TURNS)


async def test_a_write_that_fails_after_its_caller_was_cancelled_changes_nothing(database_url: str) -> None:
    def fail(connection: Connection) -> None:
        new_run(connection)
        raise LookupError

    async with Database(database_url).opened() as database:
        for turns in _TURNS:
            writing = asyncio.create_task(database.write(fail))
            for _ in range(turns):
                await asyncio.sleep(0)  # cancelled later by one turn each time
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
    assert Place(database_url).counted()["runs"] == 0


@pytest.mark.parametrize("way", ["write", "append", "read"])
async def test_nobody_is_told_of_a_failure_whose_caller_was_cancelled_twice(database_url: str, way: str) -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    may_end = threading.Event()
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def fail(connection: Connection) -> None:
        loop.call_soon_threadsafe(begun.set)
        if connection.dialect.name == "sqlite":
            may_end.wait()
        else:
            connection.exec_driver_sql("SELECT pg_sleep(0.2)")
        raise LookupError

    async with Database(database_url).opened() as database:
        working = asyncio.create_task(getattr(database, way)(fail))
        await begun.wait()
        for _ in range(2):
            working.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await working
        may_end.set()
    gc.collect()
    assert reported == []
