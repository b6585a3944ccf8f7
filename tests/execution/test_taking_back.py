"""What a process finds at its start, and what it makes of it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, insert

from tests.support.databases import NOW, Place, dump, new_run
from tests.support.serving import settings_for
from unpause.clock import SystemClock
from unpause.domain.runs import Run, RunStatus
from unpause.execution.recovery import Recovery
from unpause.store.engine.database import Database
from unpause.store.tables import organizations
from unpause.streaming.bus import InProcessBus


class Heard:
    """A dispatcher that writes down what it hears."""

    def __init__(self) -> None:
        self.ready_runs: list[int] = []

    def ready(self, run_key: int) -> None:
        """Note the run."""
        self.ready_runs.append(run_key)

    def pause_requested(self, run_key: int) -> None:
        """Nobody asks."""
        raise AssertionError(run_key)

    def cancelled(self, run_key: int) -> None:
        """Nobody asks."""
        raise AssertionError(run_key)


async def test_only_runs_that_were_running_are_made_pending_and_heard_of(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)

    def unit(connection: Connection) -> list[Run]:
        connection.execute(insert(organizations).values(name="other", created_at=NOW))
        return [
            new_run(connection, status, fence=number, lease_expires_at=NOW, organization_id=1 + number % 2)
            for number, status in enumerate([*RunStatus, *RunStatus])
        ]

    heard = Heard()
    async with Database(settings.database_url).opened() as database:
        made = await database.write(unit)
        before = await database.read(dump)
        recovery = Recovery(database, InProcessBus(), heard, SystemClock(), max_crashes=10)
        counts = [await recovery.take_back_all(), await recovery.take_back_all()]
    after = Place(settings.database_url).dump()
    assert counts == [2, 0]
    assert heard.ready_runs == [run.id for run in made if run.status is RunStatus.RUNNING]
    for run, was, now in zip(made, before["runs"], after["runs"], strict=True):
        assert now["fence"] == run.fence
        if run.status is RunStatus.RUNNING:
            assert (now["status"], now["lease_expires_at"], now["crashes"]) == ("PENDING", None, 1)
        else:
            assert now == was


async def test_an_empty_database_has_nothing_to_take_back(tmp_path: Path) -> None:
    async with Database(settings_for(tmp_path).database_url).opened() as database:
        recovery = Recovery(database, InProcessBus(), Heard(), SystemClock(), max_crashes=10)
        assert await recovery.take_back_all() == 0
