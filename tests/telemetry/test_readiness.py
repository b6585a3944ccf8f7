"""`/ready` says what is missing, and `/health` whether the background work goes on."""

from __future__ import annotations

import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text, update
from structlog.testing import capture_logs

from tests.support.databases import sqlite_url
from tests.support.scripted_driver import ScriptedDriver
from tests.support.server import served
from tests.support.serving import running
from unpause import tasks
from unpause.clock import SystemClock
from unpause.domain.nodes import MissingPart
from unpause.errors import DatabaseUnavailable
from unpause.execution.outside_changes import OutsideChanges
from unpause.execution.readiness import ReadinessCheck
from unpause.store.engine.revisions import SCHEMA_REVISION
from unpause.store.engine.schema import plain_engine
from unpause.store.tables import schema_compatibility


async def test_with_no_worker_alive_the_server_is_not_ready_and_a_new_run_is_pending(tmp_path: Path) -> None:
    async with served(tmp_path, worker=False) as server:
        ready = await server.get("/ready")
        assert ready.status_code == 503
        assert int(ready.headers["retry-after"]) > 0
        detail = "No live process executes runs of: other, toolbox"
        missing = {"part": "worker", "detail": detail, "agent_ids": ["other", "toolbox"]}
        assert ready.json() == {"status": "unavailable", "reason": detail, "missing": [missing]}
        with capture_logs() as lines:
            run = await server.begin([])
            # The sweeper may be faster.
            await server.application.unserved.sweep()
        assert run["status"] == "PENDING"
        assert [line["event"] for line in lines].count("runs wait for unserved agents") == 1
        assert (await server.get("/ready")).json()["unserved"] == [{"agent_id": "toolbox", "pending": 1, "paused": 0}]
        assert (await server.get("/health")).status_code == 200


async def test_a_server_stays_ready_with_a_newer_schema_that_works_with_it_and_says_so(tmp_path: Path) -> None:
    def upgrade(oldest_code: str) -> None:
        with plain_engine(sqlite_url(tmp_path / "unpause.db")).begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
            connection.execute(update(schema_compatibility).values(oldest_code=oldest_code))

    async with served(tmp_path) as server:
        assert (await server.get("/ready")).json() == {"status": "ready"}
        upgrade(SCHEMA_REVISION)
        ready = await server.get("/ready")
        detail = f"The database schema is at 9999: this version knows up to {SCHEMA_REVISION} and works with it"
        assert ready.status_code == 200
        assert ready.json()["schema"] == {"revision": "9999", "known": SCHEMA_REVISION, "detail": detail}
        upgrade("9999")
        ready = await server.get("/ready")
        assert (ready.status_code, ready.json()["missing"][0]["part"]) == (503, "schema")


async def test_without_its_database_a_server_is_alive_but_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise DatabaseUnavailable

    async with served(tmp_path) as server:
        with monkeypatch.context() as patched:
            patched.setattr(server.application.database._storage, "read", away)  # noqa: SLF001 - a lost connection
            with capture_logs() as lines:
                answers = [await server.get("/ready") for _ in range(3)]
        assert {(each.status_code, each.json()["missing"][0]["part"]) for each in answers} == {(503, "database")}
        assert (await server.get("/health")).status_code == 200
        with capture_logs() as later:
            assert (await server.get("/ready")).json() == {"status": "ready"}
            await server.get("/ready")
    assert [line["event"] for line in (*lines, *later)] == ["database unavailable", "database available again"], (
        "each once"
    )


@pytest.mark.sql
async def test_a_clock_that_differs_from_the_databases_makes_a_server_not_ready(
    tmp_path: Path, postgres_url: str
) -> None:
    drivers = [ScriptedDriver()]
    async with running(tmp_path, (), drivers, database_url=postgres_url) as application:
        assert (await application.check_ready()).missing == ()
        # One that no sweep sets right.
        clock = SystemClock()
        clock.synchronize(clock.now() + timedelta(seconds=90))
        registry = application.agents
        check = ReadinessCheck(application.database, registry, clock, lambda: registry.served.names, timedelta(10))
        [missing] = (await check.check(application.pulse)).missing
    assert missing.part is MissingPart.CLOCK


async def test_a_background_task_that_stalls_makes_the_process_unhealthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with served(tmp_path) as server:
        server.application.pulse.beat("heartbeat", 3.0)
        assert (await server.get("/health")).status_code == 200
        later = time.monotonic() + 3600
        monkeypatch.setattr(tasks, "monotonic", lambda: later)
        health = await server.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "unavailable")
        assert "heartbeat" in health.json()["reason"]


@pytest.mark.parametrize("change", ["moved", "replaced"])
async def test_a_server_whose_file_is_another_one_now_is_not_ready_and_says_so_once(
    tmp_path: Path, change: str
) -> None:
    """What it writes is lost, and a token that a command revokes stays valid there."""
    async with served(tmp_path) as server:
        assert (await server.get("/ready")).status_code == 200
        file = tmp_path / "unpause.db"
        moved = file.rename(tmp_path / "moved.db")
        if change == "replaced":
            shutil.copyfile(moved, file)
        sweep = OutsideChanges(server.application.database, server.application.engine.bus)
        with capture_logs() as logs:
            for _ in range(2):
                await sweep.sweep()
        assert [log["event"] for log in logs] == ["database file moved, replaced or deleted"]
        refused = await server.get("/ready")
        assert refused.status_code == 503
        assert "The database's file was moved, replaced or deleted" in refused.text
        file.unlink(missing_ok=True)
        moved.rename(file)
        assert (await server.get("/ready")).status_code == 200
