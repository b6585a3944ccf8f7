"""`unpause db backup` and `restore`: what they refuse, and that a refusal changes nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.here import Here
from unpause.store.engine.ownership import own_database


def files(folder: Path) -> dict[str, bytes]:
    """Return what is in the folder, without the file that is locked."""
    return {file.name: file.read_bytes() for file in folder.iterdir() if not file.name.endswith(".lock")}


@pytest.fixture
def backed_up(here: Here) -> Here:
    """Return a folder with a database and a backup of it."""
    here.run("db", "upgrade")
    assert here.run("db", "backup", "backup.db").stdout.startswith("Backed up ")
    return here


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("backup", "backup.db"), "backup.db exists already"),
        (("backup", "nowhere/new.db"), "nowhere is no folder in which a file can be made"),
        (("backup", "new.db", "--database-url", "sqlite:///none.db"), "there is no file none.db"),
        (("backup", "new.db", "--database-url", "postgresql+psycopg://u:secret@db/unpause"), "pg_dump"),
        (("restore", "none.db"), "there is no file none.db"),
        (("restore", "unpause.db"), "unpause.db is the database itself"),
        (("restore", "backup.db"), "unpause.db exists: --replace moves it aside"),
        (("restore", "text.db", "--replace"), "text.db is damaged, or no SQLite database"),
        (("restore", "strange.db", "--replace"), "no database of unpause"),
        (("restore", "newer.db", "--replace"), "ahead of this server's"),
        (("restore", "cut.db", "--replace"), "cut.db is damaged"),
        (("restore", "backup.db", "--database-url", "postgresql+psycopg://u:secret@db/unpause"), "pg_restore"),
    ],
)
def test_what_cannot_be_copied_is_refused_with_its_reason_and_changes_nothing(
    backed_up: Here, arguments: tuple[str, ...], reason: str
) -> None:
    folder = backed_up.folder
    (folder / "text.db").write_text("not a database, " * 100)
    with closing(sqlite3.connect(folder / "strange.db")) as other:
        other.execute("CREATE TABLE things (name TEXT)")
    whole = (folder / "backup.db").read_bytes()
    (folder / "cut.db").write_bytes(whole[: len(whole) // 2])
    (folder / "newer.db").write_bytes(whole)
    with closing(sqlite3.connect(folder / "newer.db")) as newer, newer:
        newer.execute("UPDATE alembic_version SET version_num = '9999'")
        newer.execute("UPDATE schema_compatibility SET oldest_code = '9999'")
    before = files(folder)

    done = backed_up.run("db", *arguments)

    assert done.returncode == 2
    assert reason in done.stderr
    assert "secret" not in done.stderr
    assert files(folder) == before


def test_a_restore_beside_a_running_server_is_refused(backed_up: Here) -> None:
    lock = own_database("sqlite:///unpause.db")
    assert lock is not None
    with lock:
        done = backed_up.run("db", "restore", "backup.db", "--replace")
    assert done.returncode == 2
    assert "Another unpause process has" in done.stderr


def test_a_restore_makes_a_database_where_there_is_none(backed_up: Here) -> None:
    (backed_up.folder / "unpause.db").rename(backed_up.folder / "elsewhere.db")
    assert backed_up.run("db", "restore", "backup.db").stdout == "Restored backup.db\n"
    assert backed_up.run("db", "check").returncode == 0
