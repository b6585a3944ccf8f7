"""The SQLite file, and what stands beside it, is its owner's alone."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support.databases import sqlite_url
from unpause.store.engine import migrate, sqlite
from unpause.store.engine.database import Database, database_file
from unpause.store.engine.ownership import own_database, prepare_database


def modes(folder: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}


async def test_no_other_user_may_read_the_database_or_what_stands_beside_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        url = sqlite_url(tmp_path / "unpause.db")
        lock = own_database(url)
        migrate.upgrade(url)
        async with Database(url).opened() as database:
            await database.write(lambda connection: connection.exec_driver_sql("DELETE FROM users"))
            found = modes(tmp_path)
        assert lock is not None
        lock.release()
    finally:
        os.umask(before)
    assert found.keys() >= {"unpause.db", "unpause.db-wal", "unpause.db-shm", "unpause.db.lock"}
    assert set(found.values()) == {0o600}


def test_files_of_an_older_server_become_its_owners_alone(tmp_path: Path) -> None:
    names = ["unpause.db", "unpause.db-wal", "unpause.db-shm", "unpause.db.lock"]
    for name in names:
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o644)
    (tmp_path / "link.db").symlink_to("unpause.db")
    (tmp_path / "folder.db").mkdir(mode=0o755)
    for name in ("link.db", "folder.db"):
        lock = own_database(sqlite_url(tmp_path / name))
        assert lock is not None
        lock.release()
    found = modes(tmp_path)
    assert {found[name] for name in names} == {0o600}
    assert found["folder.db"] == 0o755


def test_a_new_database_behind_a_link_is_its_owners_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link.db").symlink_to("data/real.db")
    before = os.umask(0)
    try:
        migrate.upgrade(sqlite_url(tmp_path / "link.db"))
    finally:
        os.umask(before)
    assert modes(tmp_path / "data") == {"real.db": 0o600}


def test_a_first_start_that_was_interrupted_leaves_nothing_in_the_way_of_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = sqlite_url(tmp_path / "odd [name] 100%.db")
    run = subprocess.run

    def be_killed(*_: object, env: dict[str, str], **_more: Any) -> None:  # noqa: ANN401 - as there
        file = database_file(env["UNPAUSE_DATABASE_URL"])
        assert file is not None
        # As the process leaves it that was killed in the middle.
        file.touch()
        Path(f"{file}-journal").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", be_killed)
    with pytest.raises(KeyboardInterrupt):
        prepare_database(url)
    monkeypatch.setattr(subprocess, "run", run)
    prepare_database(url)
    assert modes(tmp_path) == {"odd [name] 100%.db": 0o600}


async def test_a_write_that_waits_for_another_process_looks_again_at_once_when_that_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SQLite itself looks ten times a second: beside a busy server a command hardly ever found the lock free.
    url = sqlite_url(tmp_path / "unpause.db")
    migrate.upgrade(url)
    looks: list[float] = []
    with closing(sqlite3.connect(tmp_path / "unpause.db", isolation_level=None, check_same_thread=False)) as other:

        def look(seconds: float) -> None:
            looks.append(seconds)
            if len(looks) == 3:
                other.execute("COMMIT")

        monkeypatch.setattr(sqlite, "sleep", look)
        async with Database(url).opened() as database:
            other.execute("BEGIN IMMEDIATE")
            await database.write(lambda connection: connection.exec_driver_sql("DELETE FROM users"))
    assert len(looks) == 3
    assert max(looks) < 0.02
