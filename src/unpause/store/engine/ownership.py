"""One process owns a SQLite file; and it makes the schema of a new one."""

from __future__ import annotations

import os
import subprocess
import sys

from filelock import FileLock, Timeout

from unpause.errors import DatabaseInUse, InvalidSetting, SchemaMismatch
from unpause.store.engine.database import database_file
from unpause.store.engine.files import OWN_MODE, keep_private
from unpause.store.engine.schema import check_database


def own_database(database_url: str) -> FileLock | None:
    """Take the SQLite file for this process; the lock holds until it is released or the process ends.

    Raises DatabaseInUse where another process has it, InvalidSetting where its folder cannot be written.
    Server databases need no owner: None.
    """
    file = database_file(database_url)
    if file is None:
        return None
    # Resolved: a link to the file is the same file.
    lock = FileLock(f"{file.resolve()}.lock", timeout=0, mode=OWN_MODE)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        keep_private(file)
    except Timeout:
        raise DatabaseInUse(
            f"Another unpause process has {file} open. Stop it, or give this one another --database-url "
            "(several servers on one database need PostgreSQL)"
        ) from None
    except OSError as error:
        raise InvalidSetting(f"database_url: {file} cannot be used: {error.strerror}") from None
    return lock


def prepare_database(database_url: str) -> None:
    """Create the schema of a new SQLite file; raise SchemaMismatch where an existing one is not this code's."""
    file = database_file(database_url)
    if file is not None and not file.exists():
        # A process of its own: Alembic costs memory that a server would keep for nothing.
        command = [sys.executable, "-m", "unpause", "db", "upgrade", "--unlocked"]
        environment = {**os.environ, "UNPAUSE_DATABASE_URL": database_url}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode != 0:
            file.unlink(missing_ok=True)
            raise SchemaMismatch(f"The new database {file} could not be made: {done.stderr.strip()[-500:]}")
    check_database(database_url)
