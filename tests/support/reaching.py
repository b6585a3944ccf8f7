"""Waits for what happens to a run in the database, whoever does it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from unpause.domain.runs import Run, RunStatus
from unpause.store.engine.database import Connection, Database
from unpause.store.runs import find_by_key

_DEADLINE = 60
_LOOK_SECONDS = 0.02


async def reached(database: Database, run_key: int, *statuses: RunStatus) -> Run:
    """Wait until the run, of any organization, has one of the statuses, and return it."""

    def unit(connection: Connection) -> Run | None:
        return find_by_key(connection, run_key)

    run: Run | None = None
    try:
        async with asyncio.timeout(_DEADLINE):
            while True:
                run = await database.read(unit)
                if run is not None and run.status in statuses:
                    return run
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        message = f"run {run_key} should be {' or '.join(statuses)}; it is {run.status if run else 'not there'}"
        raise AssertionError(message) from None


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds, which nobody tells of."""
    async with asyncio.timeout(_DEADLINE):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(_LOOK_SECONDS)
