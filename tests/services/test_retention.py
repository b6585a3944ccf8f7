"""What ended long ago is forgotten, batch by batch; what waits, runs or is the history of such a run stays."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from tests.support.runs import ADA, answer, finish, look, start, start_and_follow
from tests.support.scripted_driver import ScriptedDriver
from tests.support.server import SettableClock
from tests.support.serving import running
from unpause.bootstrap import Application
from unpause.domain.audit import AuditAction
from unpause.domain.paging import Page
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import Run, RunStatus
from unpause.errors import RunNotFound
from unpause.services.commands import CreateRun
from unpause.services.retention import BATCH, Retention
from unpause.store.engine.database import Connection
from unpause.store.tables import metadata, runs, sessions

pytestmark = pytest.mark.sql

KEPT = timedelta(days=90)


async def ended(application: Application, prompt: str = "old") -> Run:
    """Return a run that has completed."""
    view = await start_and_follow(application, prompt)
    continued = await answer(application, view.run, ToolAnswer(f"call-{view.run.id}", confirmed=True))
    return (await finish(application, view.run, continued)).run


async def forget(application: Application, days: int) -> int:
    """Sweep so many days later."""
    clock = SettableClock(application.clock.now() + timedelta(days=days))
    return await Retention(application.database, clock, KEPT).sweep()


async def rows_about(application: Application, run: Run) -> set[str]:
    """Return the tables that have rows of the run."""

    def unit(connection: Connection) -> set[str]:
        tables = [table for table in metadata.tables.values() if "run_key" in table.c]
        own = {table.name: select(func.count()).select_from(table).where(table.c.run_key == run.id) for table in tables}
        own["runs"] = select(func.count()).select_from(runs).where(runs.c.id == run.id)
        own["sessions"] = select(func.count()).select_from(sessions).where(sessions.c.session_id == run.session_id)
        return {name for name, count in own.items() if connection.execute(count).scalar_one()}

    return await application.database.read(unit)


async def test_a_run_that_ended_longer_ago_is_forgotten_with_all_its_rows_and_its_session(tmp_path: Path) -> None:
    async with running(tmp_path, drivers=[ScriptedDriver()]) as application:
        run = await ended(application)
        assert {"runs", "events", "messages", "tool_calls", "requirements", "sessions"} <= await rows_about(
            application, run
        )
        assert await forget(application, 89) == 0
        assert await forget(application, 91) == 1
        assert await rows_about(application, run) == set()
        with pytest.raises(RunNotFound):
            await look(application, run)
        entries, _ = await application.audit.list_entries(ADA, None, Page(10))
        assert (entries[0].action, entries[0].via) == (AuditAction.RUNS_PURGED, "retention")
        assert entries[0].details is not None
        assert entries[0].details["runs"] == 1


async def test_what_waits_is_never_forgotten_nor_the_history_that_it_goes_on_with(tmp_path: Path) -> None:
    async with running(tmp_path, drivers=[ScriptedDriver()]) as application:
        history = await ended(application)
        waiting = (
            await application.service.create_run(ADA, CreateRun(history.agent_id, "new", session_id=history.session_id))
        ).run
        other = await start_and_follow(application, "waits alone")
        assert await forget(application, 10_000) == 0
        assert (await look(application, waiting)).run.session_id == history.session_id
        assert (await look(application, other.run)).run.status is RunStatus.PAUSED


async def test_a_paused_run_is_continued_after_a_sweep_that_took_others(tmp_path: Path) -> None:
    async with running(tmp_path, drivers=[ScriptedDriver()]) as application:
        waiting = await start_and_follow(application, "waits")
        gone = await ended(application)
        assert await forget(application, 91) == 1
        continued = await answer(application, waiting.run, ToolAnswer(f"call-{waiting.run.id}", confirmed=True))
        assert (await finish(application, waiting.run, continued)).run.status is RunStatus.COMPLETED
        assert await rows_about(application, gone) == set()


async def test_many_are_forgotten_in_batches(tmp_path: Path) -> None:
    async with running(tmp_path, drivers=[ScriptedDriver()]) as application:
        count = 2 * BATCH + 1
        for _ in range(count):
            await start(application)
        await application.database.write(
            lambda connection: connection.execute(
                update(runs).values(status="CANCELLED", ended_at=application.clock.now())
            )
        )
        assert await forget(application, 91) == count


async def test_the_server_forgets_by_itself_where_the_setting_says_so(tmp_path: Path) -> None:
    async with running(tmp_path, drivers=[ScriptedDriver()], keep_ended_runs="1s", sweep_seconds=0.05) as application:
        run = await ended(application)
        while await rows_about(application, replace(run)):
            pass
