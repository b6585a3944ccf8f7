"""`unpause db`, and what a server does with a database file that is new, behind or ahead."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.here import Here
from tests.support.processes import AGENTS_FILE, Finished, ServerProcess, unpause
from unpause.store.engine.schema import SCHEMA_REVISION

AT_HEAD = f"The database schema is at {SCHEMA_REVISION}: up to date\n"
AT_BASE = f"The database schema is at nothing: the newest is {SCHEMA_REVISION}\n"

# What is left at the base: Alembic's own table, and what SQLite keeps for columns that count up.
EMPTY = {"alembic_version", "sqlite_sequence"}


def serve(folder: Path) -> Finished:
    """Start a server that is expected to refuse."""
    arguments = ("--port", "0", "--agents", AGENTS_FILE)
    return unpause("serve", *arguments, folder=folder, TEST_FOLDER=str(folder))


def execute(folder: Path, statement: str) -> None:
    """Change the database file behind the command's back."""
    with closing(sqlite3.connect(folder / "unpause.db")) as connection:
        connection.execute(statement)
        connection.commit()


def tables(folder: Path) -> set[str]:
    """Return the names of the tables in the database file."""
    with closing(sqlite3.connect(folder / "unpause.db")) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_the_schema_goes_up_and_down_and_a_server_behind_it_names_the_command(here: Here) -> None:
    assert here.run("db", "upgrade") == Finished(0, AT_HEAD, "")
    assert "runs" in tables(here.folder)
    assert here.run("db", "upgrade") == Finished(0, AT_HEAD, ""), "once more changes nothing"
    assert here.run("db", "current") == Finished(0, AT_HEAD, "")
    assert here.run("db", "check") == Finished(0, AT_HEAD, "")
    assert here.run("db", "downgrade", "base") == Finished(0, AT_BASE, "")
    assert tables(here.folder) == EMPTY
    assert here.run("db", "current") == Finished(0, AT_BASE, "")

    refused = serve(here.folder)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        f"unpause: The database schema is at nothing, this server needs {SCHEMA_REVISION}: run `unpause db upgrade`\n"
    )
    assert tables(here.folder) == EMPTY, "a refusal changes nothing"


def test_a_schema_ahead_of_the_server_is_refused_with_the_way_back(here: Here) -> None:
    here.run("db", "upgrade")
    execute(here.folder, "UPDATE alembic_version SET version_num = '9999'")
    refused = serve(here.folder)
    assert (refused.returncode, refused.stdout) == (2, "")
    [line] = refused.stderr.splitlines()
    assert "at 9999, ahead of this server's" in line
    assert f"`unpause db downgrade {SCHEMA_REVISION}`" in line
    with closing(sqlite3.connect(here.folder / "unpause.db")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("9999",)]


def test_check_finds_a_table_that_is_not_the_codes(here: Here) -> None:
    here.run("db", "upgrade")
    execute(here.folder, "ALTER TABLE runs DROP COLUMN summary")
    done = here.run("db", "check")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "differ" in line
    assert "summary" in line


@pytest.mark.parametrize("action", [["upgrade", "nowhere"], ["downgrade", "nowhere"]], ids=" ".join)
def test_a_revision_that_there_is_not_is_refused_in_one_line(here: Here, action: list[str]) -> None:
    done = here.run("db", *action)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("unpause: ")
    assert "'nowhere'" in line


def test_db_listens_to_the_variable_and_the_option_wins(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNPAUSE_DATABASE_URL", f"sqlite:///{here.folder / 'variable.db'}")
    here.run("db", "upgrade")
    assert (here.folder / "variable.db").exists()
    here.run("db", "upgrade", "--database-url", "sqlite:///option.db")
    assert (here.folder / "option.db").exists()
    assert not (here.folder / "unpause.db").exists()


def test_a_server_makes_a_new_file_in_a_new_folder_with_the_newest_schema(tmp_path: Path) -> None:
    with ServerProcess(tmp_path / "new" / "folder") as server:
        with server.client() as client:
            ready = client.get("/ready")
        assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
        server.stop()
        assert server.rows("SELECT version_num FROM alembic_version") == [(SCHEMA_REVISION,)]


def test_the_demo_starts_without_agents_or_a_key_and_says_what_to_try(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, command="demo") as server:
        with server.client() as client:
            requested = {"message": "delete old.log", "stream": "false"}
            run = client.post("/agents/files/runs", data=requested).json()
        server.stop()
    assert run["status"] == "PAUSED"
    assert f"curl -s {server.address}/agents/files/runs" in server.output
    assert (tmp_path / "unpause-workspace").is_dir()
