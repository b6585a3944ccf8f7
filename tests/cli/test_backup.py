"""`unpause db backup` and `restore`: what they refuse, and that a refusal changes nothing."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.here import Here
from unpause.errors import InvalidSetting
from unpause.store.engine import backup
from unpause.store.engine.ownership import own_database, prepare_database
from unpause.store.engine.revisions import SchemaState


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


def test_a_backup_that_another_process_is_writing_is_left_to_it(backed_up: Here) -> None:
    partial = backed_up.folder / "twice.db.partial"
    with partial.open("wb", buffering=0) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(b"half of it")
        done = backed_up.run("db", "backup", "twice.db")
        assert done.returncode == 2
        assert "twice.db.partial is being written by another process" in done.stderr
        assert partial.read_bytes() == b"half of it"
        assert not (backed_up.folder / "twice.db").exists()
    assert backed_up.run("db", "backup", "twice.db").returncode == 0, "what a killed one has left is in nobody's way"
    assert not partial.exists()


def test_a_backup_does_not_replace_a_file_that_is_made_while_it_waits(
    backed_up: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_schema = backup._check_schema  # noqa: SLF001 - a moment between the first look and the copy
    made = backed_up.folder / "new.db"

    def check_late(connection: sqlite3.Connection) -> SchemaState:
        made.write_text("of somebody else")
        return check_schema(connection)

    monkeypatch.setattr(backup, "_check_schema", check_late)
    done = backed_up.run("db", "backup", "new.db")
    assert (done.returncode, "new.db exists already" in done.stderr) == (2, True)
    assert made.read_text() == "of somebody else"
    assert not list(backed_up.folder.glob("*.partial"))


def test_a_restore_through_a_link_replaces_the_file_behind_it(backed_up: Here) -> None:
    folder = backed_up.folder
    (folder / "data").mkdir()
    (folder / "unpause.db").rename(folder / "data" / "real.db")
    (folder / "unpause.db").symlink_to("data/real.db")
    whole = (folder / "data" / "real.db").read_bytes()
    done = backed_up.run("db", "restore", "backup.db", "--replace")
    assert done.stdout == f"Restored backup.db; the old database is {folder}/data/real.db.replaced-1\n"
    assert (folder / "unpause.db").readlink() == Path("data/real.db")
    assert (folder / "data" / "real.db.replaced-1").read_bytes() == whole
    assert backed_up.run("db", "check").returncode == 0


def test_a_link_to_a_file_with_its_changes_beside_it_is_not_taken_for_a_copy_without_them(backed_up: Here) -> None:
    folder = backed_up.folder
    (folder / "link.db").symlink_to("unpause.db")
    with closing(sqlite3.connect(folder / "unpause.db")) as connection:
        connection.execute("PRAGMA user_version=1")
    assert backup.lacks_changes("sqlite:///link.db")
    (folder / "unpause.db-wal").touch()
    assert not backup.lacks_changes("sqlite:///link.db")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for others")
@pytest.mark.parametrize("owned", ["database", "folder"])
def test_a_restore_by_root_is_for_the_user_whose_server_opens_it(backed_up: Here, owned: str) -> None:
    service = 65_534
    database, lock = backed_up.folder / "unpause.db", backed_up.folder / "unpause.db.lock"
    if owned == "folder":
        database.unlink()
        os.chown(backed_up.folder, service, service)
    else:
        os.chown(database, service, service)
    lock.unlink(missing_ok=True)
    assert backed_up.run("db", "restore", "backup.db", "--replace").returncode == 0
    assert {(file.stat().st_uid, file.stat().st_gid) for file in (database, lock)} == {(service, service)}


def test_a_refused_restore_leaves_nothing_behind(here: Here) -> None:
    assert here.run("db", "restore", "none.db").returncode != 0
    assert list(here.folder.iterdir()) == []


def _killed_after(renames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the process end after so many more files were renamed."""
    rename, done = Path.rename, 0

    def counted(self: Path, target: Path | str) -> Path:
        nonlocal done
        if done == renames:
            raise KeyboardInterrupt
        done += 1
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", counted)


# The copy gets its name first; then three files are moved aside, and the copy gets that of the database.
@pytest.mark.parametrize("renames", [1, 2, 3, 4])
def test_a_restore_that_is_killed_between_its_steps_is_done_by_the_next_one_and_no_server_starts_before(
    backed_up: Here, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    folder = backed_up.folder
    # As a killed server leaves it.
    old = {"unpause.db": b"old", "unpause.db-wal": b"changes", "unpause.db-shm": b"index"}
    for name, content in old.items():
        (folder / name).write_bytes(content)
    with monkeypatch.context() as patched:
        _killed_after(renames, patched)
        with pytest.raises(KeyboardInterrupt):
            backup.restore(folder / "backup.db", "sqlite:///unpause.db", replace=True)
    with pytest.raises(InvalidSetting, match="run `unpause db restore` again"):
        prepare_database("sqlite:///unpause.db")
    assert "run `unpause db restore` again" in backed_up.run("db", "upgrade").stderr
    assert backed_up.run("db", "restore", "backup.db", "--replace").returncode == 0
    kept = {name.replace(".db", ".db.replaced-1"): content for name, content in old.items()}
    assert kept.items() <= files(folder).items()
    prepare_database("sqlite:///unpause.db")
    assert backed_up.run("db", "check").returncode == 0


def _crash(folder: Path) -> None:
    """Leave a database as a killed server does, with a table that is in the changes beside it only."""
    with closing(sqlite3.connect(folder / "unpause.db")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE of_the_old_one (x)")
        left = {file.name: file.read_bytes() for file in folder.glob("unpause.db-*")}
    for name, content in left.items():
        (folder / name).write_bytes(content)


def test_a_restore_is_not_overwritten_by_the_changes_of_a_database_whose_file_was_removed(backed_up: Here) -> None:
    folder = backed_up.folder
    _crash(folder)
    (folder / "unpause.db").unlink()
    assert backed_up.run("db", "restore", "backup.db").returncode == 0
    with closing(sqlite3.connect(folder / "unpause.db")) as connection:
        assert connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'of_the_old_one'").fetchall() == []
    assert (folder / "unpause.db.replaced-1-wal").exists()


@pytest.mark.parametrize("ending", ["-wal", "-journal"])
def test_no_new_database_gets_the_changes_of_one_whose_file_was_removed(backed_up: Here, ending: str) -> None:
    folder = backed_up.folder
    (folder / "unpause.db").unlink()
    (folder / f"unpause.db{ending}").write_bytes(b"changes")
    before = files(folder)
    with pytest.raises(InvalidSetting, match=f"unpause.db{ending} has changes of one that was there"):
        prepare_database("sqlite:///unpause.db")
    assert f"unpause.db{ending} has changes" in backed_up.run("db", "upgrade").stderr
    assert files(folder) == before


def test_no_backup_gets_the_changes_of_a_file_that_was_removed(backed_up: Here) -> None:
    (backed_up.folder / "new.db-wal").write_bytes(b"changes")
    assert "new.db-wal exists already" in backed_up.run("db", "backup", "new.db").stderr
    assert not (backed_up.folder / "new.db").exists()


def test_a_database_with_two_names_has_no_owner(backed_up: Here) -> None:
    # A second server by the other name had a lock of its own, and neither saw the other's newest changes.
    os.link(backed_up.folder / "unpause.db", backed_up.folder / "other.db")
    for name in ("unpause.db", "other.db"):
        with pytest.raises(InvalidSetting, match="has 2 names"):
            own_database(f"sqlite:///{name}")
    (backed_up.folder / "other.db").unlink()
    lock = own_database("sqlite:///unpause.db")
    assert lock is not None
    lock.release()
