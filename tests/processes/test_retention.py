"""`unpause runs purge` and `export` beside a server that uses the database."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.processes.exchange import body_of, confirming, create, post_continue, read
from tests.support.processes import ServerProcess, unpause


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Return a server of the test's own."""
    with ServerProcess(tmp_path) as process:
        yield process


def test_runs_are_exported_and_old_ones_purged_while_a_server_runs(server: ServerProcess) -> None:
    folder = server.folder
    with server.client() as client:
        waiting = create(client, "delete waiting")
        ended = create(client, "delete ended")
        body_of(post_continue(client, ended, confirming(ended)))
        with closing(sqlite3.connect(server.database, timeout=30)) as connection, connection:
            connection.execute(
                "UPDATE runs SET ended_at = '2020-01-01 00:00:00.000000' WHERE run_id = ?", (ended["run_id"],)
            )
        lines = unpause("runs", "export", folder=folder).stdout.splitlines()
        exported: dict[str, Any] = {run["run_id"]: run for run in map(json.loads, lines)}
        counted = unpause("runs", "purge", "--older-than", "90d", "--dry-run", folder=folder)
        purged = unpause("runs", "purge", "--older-than", "90d", folder=folder)

        assert [exported[run["run_id"]]["status"] for run in (waiting, ended)] == ["PAUSED", "COMPLETED"]
        one = exported[ended["run_id"]]
        assert [call["tool_name"] for call in one["tool_calls"]] == [ended["tools"][0]["tool_name"]]
        assert [requirement["decision"] for requirement in one["requirements"]] == ["confirmed"]
        assert [event["sequence"] for event in one["events"]] == list(range(1, one["last_sequence"] + 1))
        assert (counted.returncode, counted.stdout) == (0, "1 runs ended more than 90d ago would be deleted\n")
        assert (purged.returncode, purged.stdout) == (0, "1 runs deleted\n")
        assert client.get(f"/agents/{ended['agent_id']}/runs/{ended['run_id']}").status_code == 404
        assert read(client, waiting)["status"] == "PAUSED"


def test_an_export_begins_where_it_is_told_to(server: ServerProcess) -> None:
    with server.client() as client:
        create(client, "delete it")
    assert unpause("runs", "export", "--since", "1h", folder=server.folder).stdout.count("\n") == 1
    assert unpause("runs", "export", "--since", "2100-01-01", folder=server.folder).stdout == ""


@pytest.mark.parametrize("length", ["90", "0d", "-1d", "soon"])
def test_a_length_of_time_that_is_none_is_refused(tmp_path: Path, length: str) -> None:
    done = unpause("runs", "purge", f"--older-than={length}", folder=tmp_path)
    assert done.returncode == 2
    assert "is not a duration such as 90d, 12h or 30m" in done.stderr


def test_a_setting_that_is_no_duration_is_refused(tmp_path: Path) -> None:
    done = unpause("serve", "--agents", "nothing", "--keep-ended-runs", "ninety", folder=tmp_path)
    assert done.returncode == 2
    assert "keep_ended_runs" in done.stderr
    assert "is not a duration" in done.stderr
