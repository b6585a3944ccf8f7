"""One process owns a SQLite file: it creates the schema of a new one, and keeps it from other users of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from unpause.errors import DatabaseInUse, InvalidSetting, SchemaMismatch
from unpause.store.engine.database import database_file, parse_url
from unpause.store.engine.schema import check_database

OWN_MODE: Final = 0o600

# SQLite creates its own with the mode of the database; the last one is the server's.
BESIDE: Final = ("", "-wal", "-shm", "-journal", ".lock")
# What SQLite has beside a file that was not closed: changes that are not in the file itself, and their index.
LEFTOVERS: Final = ("-wal", "-shm", "-journal")
# A backup that is to be in the place of the database.
RESTORING: Final = ".restoring"


def keep_private(file: Path) -> None:
    """Let only this user read and write the files that exist; one of another user stays as it is."""
    for ending in BESIDE:
        found = Path(os.path.realpath(file) + ending)
        # A folder that was named by mistake is refused when it is opened.
        if found.is_file():
            with suppress(PermissionError):
                found.chmod(OWN_MODE)


def create_private(file: Path) -> None:
    """Create the file, empty, for this user alone; an existing one stays as it is."""
    # Opening it later reports what is wrong.
    with suppress(OSError):
        # Not through a link to a file that is to come, which O_EXCL refuses.
        os.close(os.open(os.path.realpath(file), os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWN_MODE))


def user_of(file: Path) -> tuple[int, int]:
    """Return the user and group that the file belongs to, or its folder where there is none."""
    found = (file if file.exists() else file.parent).stat()
    return found.st_uid, found.st_gid


def give(file: Path, user: tuple[int, int]) -> None:
    """Give a file that root has made to the user whose server has to open it, as SQLite does with those beside one."""
    if os.geteuid() == 0 and file.exists():
        # A root that may not do so, as in some containers, runs the server as well.
        with suppress(OSError):
            os.chown(file, *user, follow_symlinks=False)


def sync_folder(folder: Path) -> None:
    """Have the names of the files in the folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def own_database(database_url: str) -> FileLock | None:
    """Take the SQLite file for this process; the lock holds until it is released or the process ends.

    Raises DatabaseInUse where another process has it, InvalidSetting where its folder cannot be written or the file has
    another name, by which another process could have it.
    Server databases need no owner: None.
    """
    file = database_file(database_url)
    if file is None:
        return None
    # Resolved: a link to the file is the same file.
    lock = FileLock(os.path.realpath(file) + ".lock", timeout=0, mode=OWN_MODE)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        if file.exists():
            _require_one_name(file)
            give(Path(lock.lock_file), user_of(file))
        keep_private(file)
    except Timeout:
        raise DatabaseInUse(
            f"Another unpause process has {file} open. Stop it, or give this one another --database-url "
            "(several servers on one database need PostgreSQL)"
        ) from None
    except OSError as error:
        raise InvalidSetting(f"database_url: {file} cannot be used: {error.strerror}") from None
    except InvalidSetting:
        lock.release()
        raise
    return lock


def _require_one_name(file: Path) -> None:
    """Raise InvalidSetting for a file with hard links: locks, and SQLite's changes, stand beside each name."""
    names = file.stat().st_nlink
    if file.is_file() and names > 1:
        raise InvalidSetting(
            f"database_url: {file} has {names} names (hard links), and what is written by one of them is missing or "
            f"damaged by another. Find them with `find / -samefile {file}` and remove the others; `unpause db backup` "
            "makes a copy"
        )


def check_leftovers(database_url: str) -> None:
    """Raise InvalidSetting where an interrupted restore has to be ended, or a new file would get changes of an old one.

    Only before the file is opened, and by the process that owns it.
    """
    name = database_file(database_url)
    if name is None:
        return
    file = Path(os.path.realpath(name))
    if Path(f"{file}{RESTORING}").exists():
        raise InvalidSetting(
            f"database_url: a restore of {file} was interrupted: run `unpause db restore` again. Or go on with the "
            f"database before it: remove {file.name}{RESTORING}, and give what has been moved to the newest "
            f"{file.name}.replaced-N, also with -wal at its end, its name back"
        )
    if file.exists():
        return
    for ending in ("-wal", "-journal"):
        left = Path(f"{file}{ending}")
        if left.exists() and left.stat().st_size:
            raise InvalidSetting(
                f"database_url: there is no {file}, and {left.name} has changes of one that was there. Bring the file "
                "back; or to begin with an empty database, move that away"
            )


def prepare_database(database_url: str) -> None:
    """Create the schema of a new SQLite file; raise SchemaMismatch where an existing one is not this code's.

    Raises InvalidSetting as ``check_leftovers`` does.
    """
    check_leftovers(database_url)
    file = database_file(database_url)
    if file is not None and not file.exists():
        _create(database_url, Path(os.path.realpath(file)))
    check_database(database_url)


def _create(database_url: str, file: Path) -> None:
    """Create the file, which gets its name once it is whole: a start that is interrupted leaves none behind.

    A server refuses half a database, so the next start would, too.
    """
    for left in file.parent.glob(f"{escape(file.name)}.new-*"):
        left.unlink(missing_ok=True)
    # With a number, as the process below may outlive this one.
    fresh = file.with_name(f"{file.name}.new-{os.getpid()}")
    url = parse_url(database_url).set(database=str(fresh)).render_as_string(hide_password=False)
    # In another process: Alembic needs memory that a server would keep without using it.
    command = [sys.executable, "-m", "unpause", "db", "upgrade", "--unlocked"]
    environment = {**os.environ, "UNPAUSE_DATABASE_URL": url}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - this program itself
    if done.returncode != 0:
        fresh.unlink(missing_ok=True)
        raise SchemaMismatch(f"The new database {file} could not be created: {done.stderr.strip()[-500:]}")
    fresh.rename(file)
    sync_folder(file.parent)
