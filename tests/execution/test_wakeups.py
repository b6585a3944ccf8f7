"""What happens while the workers wait for the database is not forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.databases import new_run
from tests.support.gates import Gates
from tests.support.holding_driver import HoldingDriver
from tests.support.reaching import reached, until
from tests.support.runs import start
from tests.support.serving import running
from unpause.bootstrap import Application
from unpause.domain.runs import RunStatus
from unpause.store.engine.database import Connection
from unpause.streaming.bus import Signal

_NEVER = 3600.0
_SOON = 0.01


async def unheard(application: Application) -> int:
    """Make a run that nobody is told of."""
    return await application.database.write(lambda connection: new_run(connection, agent_id="holding").id)


async def test_a_run_announced_while_the_table_was_looked_at_is_executed_when_a_slot_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver, gates = HoldingDriver(), Gates("looked")
    settings: dict[str, Any] = {
        "shutdown_grace_seconds": 0.0,
        "sweep_seconds": _NEVER,
        "poll_seconds": _NEVER,
        "max_running": 1,
    }
    async with running(tmp_path, drivers=[driver], **settings) as application:
        workers, database = application.workers, application.database
        first = (await start(application)).id
        await driver.has_started(1)

        async def query_slowly(unit: Callable[[Connection], bool]) -> bool:
            found = await database.query(unit)
            await gates.pass_through("looked")
            return found

        monkeypatch.setattr(workers, "_database", SimpleNamespace(query=query_slowly, read=database.read))
        monkeypatch.setattr(workers, "_rules", replace(workers._rules, poll_seconds=_SOON))  # noqa: SLF001
        workers._wakeup.set()  # noqa: SLF001 - it waits for as long as the rules say now
        await gates.reached("looked")
        # Nothing was PENDING when it looked, and this is its last look.
        monkeypatch.setattr(workers, "_rules", replace(workers._rules, poll_seconds=_NEVER))  # noqa: SLF001
        second = await unheard(application)
        workers._on_signal(Signal.READY, second)  # noqa: SLF001 - as the bus does
        gates.open("looked")
        await until(lambda: not workers._wakeup.is_set())  # noqa: SLF001 - the announcement has been taken note of
        await driver.let_go()
        for run in (first, second):
            await reached(database, run, RunStatus.COMPLETED)
