"""`unpause db`, and what a server does with a database file that is new, behind or ahead."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.here import Here
from tests.support.processes import AGENTS_FILE, Finished, ServerProcess, unpause
from unpause.cli import retention
from unpause.errors import DatabaseUnavailable, StorageError
from unpause.store.engine.revisions import OLDEST_SCHEMA, SCHEMA_REVISION

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
    supported = SCHEMA_REVISION if OLDEST_SCHEMA == SCHEMA_REVISION else f"{OLDEST_SCHEMA} to {SCHEMA_REVISION}"
    assert refused.stderr == (
        f"unpause: The database schema is at nothing, this server needs {supported}: run `unpause db upgrade`\n"
    )
    assert tables(here.folder) == EMPTY, "a refusal changes nothing"


def be_ahead(folder: Path, *, oldest_code: str) -> None:
    """Make the schema one of a later version."""
    execute(folder, "UPDATE alembic_version SET version_num = '9999'")
    execute(folder, f"UPDATE schema_compatibility SET oldest_code = '{oldest_code}'")  # noqa: S608 - a test's own


def test_a_newer_schema_that_works_with_this_version_stays_and_every_command_says_so(here: Here) -> None:
    here.run("db", "upgrade")
    be_ahead(here.folder, oldest_code=SCHEMA_REVISION)
    state = f"The database schema is at 9999: this version knows up to {SCHEMA_REVISION} and works with it\n"
    for command in ("upgrade", "current", "check"):
        assert here.run("db", command) == Finished(0, state, ""), command
    assert here.run("db", "backup", "backup.db").returncode == 0
    restored = here.run("db", "restore", "backup.db", "--replace")
    assert (restored.returncode, restored.stdout.splitlines()[-1] + "\n") == (0, state)
    be_ahead(here.folder, oldest_code="9999")
    for words in (["upgrade"], ["check"], ["downgrade", "base"], ["backup", "second.db"]):
        done = here.run("db", *words)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert "at 9999, ahead of this server's" in done.stderr, words


def test_a_backup_of_an_older_version_is_restored_with_the_command_that_upgrades_it(here: Here) -> None:
    here.run("db", "upgrade", "0009")
    assert here.run("db", "backup", "backup.db").returncode == 0
    restored = here.run("db", "restore", "backup.db", "--replace")
    assert restored.returncode == 0
    assert restored.stdout.endswith(f"at 0009: the newest is {SCHEMA_REVISION}; run `unpause db upgrade`\n")


def test_a_schema_ahead_of_the_server_is_refused_with_the_way_back(here: Here) -> None:
    here.run("db", "upgrade")
    be_ahead(here.folder, oldest_code="9999")
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
    (here.folder / "unpause.db").touch()
    done = here.run("db", *action)
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("unpause: ")
    assert "'nowhere'" in line


@pytest.mark.parametrize("action", [["current"], ["check"], ["downgrade", "0015"]], ids=" ".join)
def test_a_database_that_there_is_not_is_refused_and_not_made(here: Here, action: list[str]) -> None:
    done = here.run("db", *action, "--database-url", "sqlite:///misspelt/unpause.db")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("unpause: There is no database misspelt/unpause.db")
    assert list(here.folder.iterdir()) == []


@pytest.mark.parametrize("action", ["upgrade", "downgrade"])
def test_an_empty_revision_as_of_an_unset_variable_is_refused(here: Here, action: str) -> None:
    (here.folder / "unpause.db").touch()
    done = here.run("db", action, "")
    assert (done.returncode, done.stderr) == (
        2,
        "unpause: The database schema was not changed: the revision is empty\n",
    )


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


@pytest.mark.parametrize(
    ("error", "says"),
    [(DatabaseUnavailable(), "The database does not answer"), (StorageError(), "The database refused a statement")],
)
def test_a_database_that_fails_in_the_middle_of_a_command_is_one_line(
    here: Here, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    async def fail(*_: object) -> int:
        raise error

    here.run("db", "upgrade")
    monkeypatch.setattr(retention, "_purge", fail)
    done = here.run("runs", "purge", "--older-than", "1d")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert says in done.stderr
