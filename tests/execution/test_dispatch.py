"""What a process finds at its start, and what it makes of it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, insert

from tests.support.databases import NOW, Place, dump, new_run
from tests.support.serving import settings_for
from unpause.clock import SystemClock
from unpause.domain.runs import Run, RunStatus
from unpause.execution.dispatch import InProcessDispatcher, take_back_runs
from unpause.store.database import Database
from unpause.store.tables import organizations


async def test_only_runs_that_were_running_are_made_pending_and_all_pending_ones_are_queued(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)

    def unit(connection: Connection) -> list[Run]:
        connection.execute(insert(organizations).values(name="other", created_at=NOW))
        return [
            new_run(connection, status, fence=number, lease_expires_at=NOW, organization_id=1 + number % 2)
            for number, status in enumerate([*RunStatus, *RunStatus])
        ]

    async with Database(settings.database_url).opened() as database:
        made = await database.write(unit)
        before = await database.read(dump)
        dispatcher = InProcessDispatcher(max_running=1, grace_seconds=0)
        ready = await take_back_runs(database, dispatcher, SystemClock())
        again = await take_back_runs(database, dispatcher, SystemClock())
    after = Place(settings.database_url).dump()
    assert ready == again == 4
    for run, was, now in zip(made, before["runs"], after["runs"], strict=True):
        assert now["fence"] == run.fence
        if run.status is RunStatus.RUNNING:
            assert (now["status"], now["lease_expires_at"]) == ("PENDING", None)
        else:
            assert now == was


async def test_an_empty_database_has_nothing_to_take_back(tmp_path: Path) -> None:
    async with Database(settings_for(tmp_path).database_url).opened() as database:
        dispatcher = InProcessDispatcher(max_running=1, grace_seconds=0)
        assert await take_back_runs(database, dispatcher, SystemClock()) == 0
