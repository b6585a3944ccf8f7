"""What ended long ago is forgotten, batch by batch; what waits, runs or is the history of such a run stays."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from tests.support.databases import new_run
from tests.support.runs import ADA, answer, finish, look, start, start_and_follow
from tests.support.scripted_driver import ScriptedDriver
from tests.support.server import SettableClock
from tests.support.serving import application_for, running, settings_for
from unpause.bootstrap import Application
from unpause.cli.main import main
from unpause.domain.audit import AuditAction, AuditEntry, AuditFilter
from unpause.domain.paging import Page
from unpause.domain.requirements import ToolAnswer
from unpause.domain.retention import RetentionKind, RetentionRules
from unpause.domain.runs import Run, RunStatus
from unpause.domain.webhooks import Address, Delivery
from unpause.errors import RunNotFound
from unpause.services.audit_chain import AuditSealing
from unpause.services.commands import CreateRun
from unpause.services.retention import BATCH, Purge, Retention
from unpause.store.audit import add_entries
from unpause.store.deliveries import add_deliveries
from unpause.store.engine.database import Connection
from unpause.store.engine.schema import plain_connection
from unpause.store.organization_retention import set_own_rules
from unpause.store.tables import metadata, organizations, runs, sessions, webhook_deliveries

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
    return await Retention(application.database, clock, RetentionRules(KEPT)).sweep()


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
        entries, _ = await application.audit.list_entries(ADA, AuditFilter(), Page(10))
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


async def test_the_history_of_a_run_that_is_being_created_is_not_forgotten(tmp_path: Path, database_url: str) -> None:
    async with running(tmp_path, drivers=[ScriptedDriver()], database_url=database_url) as application:
        history = await ended(application)
        with plain_connection(database_url) as creating, creating.begin():
            new_run(creating, RunStatus.PAUSED, session_id=history.session_id)
            forgetting = asyncio.create_task(forget(application, 10_000))
            await asyncio.wait({forgetting}, timeout=0.5)
        assert await forgetting == 0
        assert (await look(application, history)).run.status is RunStatus.COMPLETED


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


async def run_of_another_organization(application: Application) -> None:
    def unit(connection: Connection) -> None:
        connection.execute(insert(organizations).values(id=2, name="other", created_at=application.clock.now()))
        # As the same runs, of another organization, that ended.
        connection.execute(update(sessions).where(sessions.c.id == 2).values(organization_id=2))
        connection.execute(update(runs).where(runs.c.session_key == 2).values(organization_id=2))

    await application.database.write(unit)


@pytest.mark.parametrize(
    ("own", "left"),
    [
        ({}, []),
        ({2: timedelta()}, [2]),
        ({2: timedelta(days=1000)}, [2]),
        ({1: timedelta(days=1000), 2: timedelta(days=10)}, [1]),
        ({1: timedelta(days=1), 2: None}, []),
    ],
)
async def test_an_organizations_own_time_wins_over_the_servers(
    tmp_path: Path, own: dict[int, timedelta | None], left: list[int]
) -> None:
    async with running(tmp_path, drivers=[ScriptedDriver()]) as application:
        for _ in range(2):
            await ended(application)
        await run_of_another_organization(application)
        for number, length in own.items():
            rules = {RetentionKind.ENDED_RUNS: length}
            await application.database.write(lambda connection: set_own_rules(connection, number, rules))  # noqa: B023
        await forget(application, 91)
        found = await application.database.read(
            lambda connection: connection.execute(select(runs.c.organization_id)).scalars().all()
        )
        assert list(found) == left


@pytest.mark.parametrize("kind", [RetentionKind.ENDED_RUNS, RetentionKind.AUDIT])
async def test_an_organization_that_decides_to_keep_all_forever_during_a_sweep_loses_no_more(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch, kind: RetentionKind
) -> None:
    async with running(tmp_path, drivers=[ScriptedDriver()], database_url=database_url) as application:
        for _ in range(3):
            await ended(application)
        database = application.database
        await database.write(lambda connection: set_own_rules(connection, 1, {kind: KEPT}))
        await AuditSealing(database).sweep()
        delete_some = Purge.delete_some
        deleted: list[int] = []

        def delete_and_set_forever(purge: Purge, connection: Connection, now: datetime, via: str) -> int:
            # What a sweep has read may be changed before its first batch, too.
            if not deleted:
                set_own_rules(connection, 1, {kind: timedelta()})
            deleted.append(delete_some(purge, connection, now, via))
            return deleted[-1]

        monkeypatch.setattr(Purge, "delete_some", delete_and_set_forever)
        clock = SettableClock(application.clock.now() + timedelta(days=91))
        assert await Retention(database, clock, RetentionRules()).sweep() == 0
        assert deleted == [0]


async def test_messages_go_with_their_run_and_finished_ones_after_their_own_time(tmp_path: Path) -> None:
    async with running(tmp_path, drivers=[ScriptedDriver()]) as application:
        gone, waiting = await ended(application), (await start_and_follow(application, "waits")).run
        now = application.clock.now()

        def deliveries(connection: Connection) -> None:
            for number, run in enumerate((gone, waiting, waiting)):
                address = Address.read("https://a.example")
                add_deliveries(connection, [Delivery(f"{number}", 1, address, "{}", now, run_id=run.run_id)])
            finished = webhook_deliveries.c.id == "2"
            connection.execute(update(webhook_deliveries).where(finished).values(next_attempt_at=None))

        async def left() -> list[str]:
            query = select(webhook_deliveries.c.id).order_by(webhook_deliveries.c.id)
            return list(await application.database.read(lambda connection: connection.execute(query).scalars().all()))

        await application.database.write(deliveries)
        assert await forget(application, 91) == 0
        # What is still to be sent stays, and with it its run.
        assert await left() == ["0", "1", "2"]
        sent = update(webhook_deliveries).where(webhook_deliveries.c.id == "0").values(next_attempt_at=None)
        await application.database.write(lambda connection: connection.execute(sent))
        assert await forget(application, 91) == 1
        assert await left() == ["1", "2"]
        clock = SettableClock(now + timedelta(days=8))
        rules = RetentionRules(keep_deliveries=timedelta(days=7))
        assert await Retention(application.database, clock, rules).sweep() == 1
        # What is still to be sent stays.
        assert await left() == ["1"]


async def test_old_audit_entries_go_from_the_oldest_on_and_the_rest_is_still_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Without the sweeps of a server, which would seal the entries at a moment of their own.
    application = application_for(settings_for(tmp_path))
    async with application.database.opened() as database:
        now = application.clock.now()
        days = [0, 1, 10, 2, 11]

        def entries(connection: Connection) -> None:
            made = (
                AuditEntry(organization_id=1, at=now + timedelta(days=day), action=AuditAction.GRANTED, via="agno")
                for day in days
            )
            add_entries(connection, list(made))

        async def purge(days: int) -> int:
            rules = RetentionRules(keep_audit=timedelta(days=5))
            return await Retention(database, SettableClock(now + timedelta(days=days)), rules).sweep()

        await database.write(entries)
        # Not sealed yet.
        assert await purge(100) == 0
        await AuditSealing(database).sweep()
        # The one of the second day stands behind a younger one.
        assert [await purge(4), await purge(8), await purge(8)] == [0, 2, 0]
        url = str(database.url.render_as_string(hide_password=False))
        assert _verified(url, capsys)["purged"]["number"] == 2
        assert await purge(100) == 3
        found = _verified(url, capsys)
        assert (found["entries"], found["newest"]["number"], found["purged"]["number"]) == (0, 5, 5)
        await database.write(entries)
        await AuditSealing(database).sweep()
        assert _verified(url, capsys)["newest"]["number"] == 10


def _verified(url: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    main(["audit", "verify", "--json", "--database-url", url])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)["organizations"][0]
    assert found["whole"]
    return found
