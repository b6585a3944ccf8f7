"""SQLAlchemy engines that cost tests less: they share what they compile, and SQLite does not wait for the disk.

No test cuts the power. What a killed process had written is there all the same: the kernel has it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Connection, Engine, event

from unpause.store.engine import backup, postgres, servers

_waits_for_disk: Final = Event()

# What a connection is made with, as it is outside of tests.
USUAL_CONNECTION: Final = servers._CONNECTION  # noqa: SLF001 - it is replaced below

# For a connection. As long as a test waits for anything; the servers' 5 seconds a busy machine may stand still.
_PATIENCE_SECONDS: Final = 60


class _SharedStatements(dict[Any, Any]):
    """Compiled statements by what they are and for which kind of engine, not by the engine itself."""

    def get(self, key: Any, default: Any = None) -> Any:  # noqa: ANN401 - SQLAlchemy's own
        return super().get(self._shared(key), default)

    def __setitem__(self, key: Any, value: Any) -> None:  # noqa: ANN401 - SQLAlchemy's own
        super().__setitem__(self._shared(key), value)

    def _shared(self, key: Any) -> Any:  # noqa: ANN401 - SQLAlchemy's own
        dialect, *rest = key
        # Values are read and written by these two.
        return (type(dialect), getattr(dialect, "_json_serializer", None), *rest)


def quicken_engines() -> None:
    """Let all engines of this process share their compiled statements, and SQLite not wait for the disk.

    Most tests have an engine of their own: a fifth of their time went into compiling the same statements again, and a
    third into waiting for a disk that no test cuts the power of.
    """
    statements = _SharedStatements()
    open_file = backup._open  # noqa: SLF001 - each server marks its file with it, and waits twice

    def open_quickly(file: Path) -> sqlite3.Connection:
        opened = open_file(file)
        _wait_for_no_disk(opened)
        return opened

    backup._open = open_quickly  # noqa: SLF001 - the same

    @event.listens_for(Engine, "engine_connect")
    def connected(connection: Connection) -> None:
        connection.execution_options(compiled_cache=statements)
        if connection.dialect.name == "sqlite":
            _wait_for_no_disk(connection.connection.driver_connection)


def let_engines_wait() -> None:
    """Let all engines of this process wait longer for a connection to PostgreSQL than the machine may stand still.

    When a process goes on that stood still, its waits for connections are over before it has seen that one is free.
    """
    postgres._POOL_SECONDS = float(_PATIENCE_SECONDS)  # noqa: SLF001 - no setting, as nobody but tests needs one
    servers._CONNECTION = MappingProxyType({**USUAL_CONNECTION, "connect_timeout": _PATIENCE_SECONDS})  # type: ignore[misc]  # noqa: SLF001 - the same


def _wait_for_no_disk(connection: Any) -> None:  # noqa: ANN401 - any driver's
    if not _waits_for_disk.is_set():
        # Where the file is no database, the first statement of the code under test is to say so.
        with suppress(sqlite3.DatabaseError):
            connection.execute("PRAGMA synchronous=OFF").close()


@contextmanager
def waiting_for_the_disk() -> Iterator[None]:
    """Leave the engines that connect within the block as durable as they are."""
    _waits_for_disk.set()
    try:
        yield
    finally:
        _waits_for_disk.clear()
