"""Rows that this version cannot read are named, and stop nothing that comes behind them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
import uvicorn
from sqlalchemy import Connection, select, text
from structlog.testing import capture_logs

from tests.support.backlog import add_backlog
from tests.support.databases import new_run, sqlite_url
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import application_for, serving, settings_for
from unpause.cli.server_process import _Server
from unpause.domain.runs import RunStatus
from unpause.errors import InvalidSetting
from unpause.store.engine.schema import plain_engine
from unpause.store.tables import runs
from unpause.store.unreadable import UnreadableRows

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

CODEGEN = "/v1/organizations/1/agent/run"

# Of the runs 1 to 9: an unknown kind, JSON of another shape, an unknown reason, a moment that is none where a database
# takes such.
DAMAGES = (
    "UPDATE requirements SET kind = 'riddle' WHERE run_key = 1",
    "UPDATE requirements SET fields = '{\"a\": 1}' WHERE run_key = 2",
    "UPDATE runs SET end_reason = 'whim' WHERE id = 3",
)
ON_SQLITE = (
    "UPDATE requirements SET tool_args = '{' WHERE run_key = 4",
    "UPDATE runs SET created_at = 'yesterday' WHERE id = 5",
)


def execute(url: str, *statements: str) -> None:
    with plain_engine(url).begin() as connection:
        for statement in statements:
            connection.execute(text(statement.replace(":", "\\:")))


def passed_over(logs: Sequence[MutableMapping[str, Any]]) -> list[tuple[str, object]]:
    return [(entry["table"], entry["id"]) for entry in logs if entry["event"].startswith("row passed over")]


def statuses(connection: Connection) -> dict[int, str]:
    return {int(row.id): row.status for row in connection.execute(select(runs.c.id, runs.c.status))}


@pytest.mark.sql
async def test_pauses_behind_an_unreadable_one_expire(database_url: str, tmp_path: Path) -> None:
    damages = DAMAGES + (ON_SQLITE if database_url.startswith("sqlite") else ())
    bad = list(range(1, len(damages) + 1))
    application = application_for(settings_for(tmp_path, database_url=database_url), [])
    async with application.database.opened():
        await application.database.write(lambda connection: add_backlog(connection, 9))
        execute(database_url, "UPDATE requirements SET expires_at = created_at, due_at = created_at", *damages)
        with capture_logs() as logs:
            for _ in range(2):
                await application.expiry.sweep()
        found = await application.database.read(statuses)
    assert found == {key: "PAUSED" if key in bad else "PENDING" for key in range(1, 10)}
    assert sorted(passed_over(logs)) == [("runs", key) for key in bad]


@pytest.mark.sql
async def test_runs_behind_an_unreadable_one_are_taken_back(database_url: str, tmp_path: Path) -> None:
    application = application_for(settings_for(tmp_path, database_url=database_url), [])

    def fill(connection: Connection) -> None:
        for _ in range(3):
            new_run(connection, RunStatus.RUNNING)

    async with application.database.opened():
        await application.database.write(fill)
        execute(database_url, "UPDATE runs SET end_reason = 'whim' WHERE id = 1")
        with capture_logs() as logs:
            assert [await application.recovery.take_back_all() for _ in range(2)] == [2, 0]
        assert await application.database.read(statuses) == {1: "RUNNING", 2: "PENDING", 3: "PENDING"}
    assert passed_over(logs) == [("runs", 1)]
    assert application.recovery.unreadable.count == 2


async def test_lists_show_the_others_and_a_server_starts_beside_a_row_that_it_cannot_read(tmp_path: Path) -> None:
    driver = ScriptedDriver()
    form = {"message": "hello", "stream": "false", "session_id": "s"}
    async with serving(tmp_path, drivers=[driver]) as client:
        for _ in range(3):
            assert (await client.post("/agents/scripted/runs", data=form)).status_code == 200
    execute(
        sqlite_url(tmp_path / "unpause.db"),
        "UPDATE runs SET end_reason = 'whim', status = 'RUNNING' WHERE id = 1",
        "UPDATE requirements SET kind = 'riddle' WHERE run_key = 2",
    )
    async with serving(tmp_path, drivers=[driver]) as client:
        listed = (await client.get(f"{CODEGEN}s")).json()
        assert ([run["id"] for run in listed["items"]], listed["total"]) == ([3, 2], 3)
        for path in ("/sessions/s/runs", "/agents/scripted/runs?session_id=s"):
            response = await client.get(path)
            # Of the one whose requirement cannot be read there is its own row.
            assert (response.status_code, len(response.json())) == (200, 2), response.text
        assert (await client.get(f"{CODEGEN}/1")).status_code == 409
        for path in ("/sessions/s", "/sessions/s/run-previews", "/approvals"):
            assert (await client.get(path)).status_code == 200
        # What was wrong with them can be ended all the same.
        assert (await client.post(f"{CODEGEN}/ban", json={"agent_run_id": 2})).status_code == 200


def test_a_row_is_logged_once_a_minute_and_counted_each_time() -> None:
    now = [0.0]
    unreadable = UnreadableRows(lambda: now[0])
    with capture_logs() as logs:
        for moment in (0.0, 59.9, 60.0):
            now[0] = moment
            for key in (1, 2):
                unreadable.note("runs", key, ValueError("'whim' is unknown\nand this is what the row holds"))
    assert passed_over(logs) == [("runs", 1), ("runs", 2)] * 2
    assert {entry["reason"] for entry in logs} == {"'whim' is unknown"}
    assert unreadable.count == 6


async def test_a_server_that_fails_to_start_gives_no_wrong_reason() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - as ASGI has it
        del scope, send
        await receive()
        raise RuntimeError

    config = uvicorn.Config(failing, lifespan="on", log_config=None)
    config.load()
    server = _Server(config, None, Mock(failure=None))  # type: ignore[arg-type] # it gets no further
    server.lifespan = config.lifespan_class(config)
    with pytest.raises(InvalidSetting, match="could not start; the log above says why"):
        await server.startup()
