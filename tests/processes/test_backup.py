"""A backup is whole while a server writes, and a restore of it has every pause that it was told of."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.processes.exchange import begin, body_of, calls_of, confirming, create, post_continue, read, settled
from tests.support.processes import Barrier, ServerProcess, unpause


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Return a server of the test's own: the shared one has runs of others."""
    with ServerProcess(tmp_path) as process:
        yield process


def back_up(server: ServerProcess, file: str) -> None:
    """Copy the server's database into a file of its folder."""
    done = unpause("db", "backup", file, folder=server.folder)
    assert done.returncode == 0, done.stderr


def test_a_backup_under_load_is_restored_with_all_that_was_paused_before_it(server: ServerProcess) -> None:
    enough = threading.Event()

    def load() -> None:
        with server.client() as client:
            while not enough.is_set():
                create(client, "delete of the load")

    with server.client() as client:
        paused = [create(client, f"delete kept-{number}") for number in range(3)]
        writers = [threading.Thread(target=load) for _ in range(2)]
        for writer in writers:
            writer.start()
        try:
            back_up(server, "backup.db")
        finally:
            enough.set()
            for writer in writers:
                writer.join()
        # What the backup does not know.
        assert body_of(post_continue(client, paused[0], confirming(paused[0])))["status"] == "COMPLETED"
    server.kill()
    with closing(sqlite3.connect(server.folder / "backup.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert (server.folder / "backup.db").stat().st_mode & 0o777 == 0o600

    restored = unpause(
        "db",
        "restore",
        "backup.db",
        "--replace",
        "--database-url",
        f"sqlite:///{server.database}",
        folder=server.folder,
    )
    assert (restored.returncode, restored.stderr) == (0, "")
    assert Path(f"{server.database}.replaced-1").exists()
    server.start()
    with server.client() as client:
        assert [read(client, run)["status"] for run in paused] == ["PAUSED"] * 3
        assert body_of(post_continue(client, paused[1], confirming(paused[1])))["status"] == "COMPLETED"


def test_a_call_that_was_running_at_the_moment_of_the_backup_is_in_doubt_after_the_restore(
    server: ServerProcess,
) -> None:
    with Barrier(server.folder, "cut") as door:
        with server.client() as client:
            run = create(client, "guarded cut")
            body_of(post_continue(client, run, confirming(run), background="true"), 202)
            door.wait_for_arrival()
            back_up(server, "backup.db")
        server.kill()
        unpause("db", "restore", "backup.db", "--replace", folder=server.folder)
        server.start()
        with server.client() as client:
            assert "may already have run" in settled(client, run)["content"]
    assert calls_of(server, "cut") == ["guarded cut"]


def test_a_copy_of_the_file_alone_is_recognized_and_whole_ones_are_not_accused(server: ServerProcess) -> None:
    warning = "may lack its newest changes"
    with server.client() as client:
        run = create(client, "delete old")
    shutil.copyfile(server.database, server.folder / "copied.db")
    back_up(server, "backup.db")
    server.kill()
    server.start()
    assert warning not in server.output, "killed, with its changes beside it"
    server.stop()
    server.start()
    assert warning not in server.output, "stopped"
    with server.client() as client:
        assert read(client, run)["status"] == "PAUSED"
    server.stop()
    for name, is_accused in (("backup.db", False), ("copied.db", True)):
        url = {"UNPAUSE_DATABASE_URL": f"sqlite:///{server.folder / name}"}
        with ServerProcess(server.folder, environment=url) as other:
            seen: Any = other.output
        assert (warning in seen) is is_accused, name


def test_a_paused_run_survives_in_the_backup_of_a_killed_server(server: ServerProcess) -> None:
    with server.client() as client:
        run = begin(client, "delete old")
        settled(client, run)
    server.kill()
    back_up(server, "backup.db")
    with closing(sqlite3.connect(server.folder / "backup.db")) as copy:
        assert copy.execute("SELECT status FROM runs").fetchall() == [("PAUSED",)]
