"""Copies a SQLite database whole while a server uses it, and puts a copy in its place; also sees partial copies."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from unpause.errors import DatabaseInUse, InvalidSetting, SchemaMismatch
from unpause.store.engine.database import database_file
from unpause.store.engine.failures import database_errors
from unpause.store.engine.ownership import LEFTOVERS, OWN_MODE, RESTORING, give, keep_private, sync_folder, user_of
from unpause.store.engine.revisions import SchemaState

if TYPE_CHECKING:
    from collections.abc import Iterator

# What `PRAGMA user_version` says of a file: a server has it open, or had, and did not close it; or none has.
_CLOSED, _IN_USE = 0, 1

_WAIT_SECONDS: Final = 30.0


def back_up(database_url: str, target: Path) -> int:
    """Copy the database, as it is at one moment, into a new file for this user alone; return the file's bytes.

    A server may go on writing meanwhile. Raises InvalidSetting where the database is no SQLite file or there is none,
    where ``target`` exists or cannot be written, and SchemaMismatch where the copy is damaged.
    """
    source = _existing_file(database_url)
    for existing in (target, *(Path(f"{target}{ending}") for ending in LEFTOVERS)):
        if existing.exists():
            raise InvalidSetting(f"{existing} exists already: a backup replaces no file")
    if not os.access(target.parent, os.W_OK):
        raise InvalidSetting(f"{target.parent} is no folder in which a file can be made")
    with _usable(source), closing(_open(source)) as connection:
        _copy(connection, target)
    return target.stat().st_size


def find_restored(backup: Path, database_url: str, *, replace: bool) -> Path:
    """Return the file in whose place a backup is put; raise InvalidSetting where that cannot be.

    Creates nothing, such as a lock.
    """
    file = _file_behind(database_url)
    if file is None:
        raise InvalidSetting(f"database_url: {_FOR_POSTGRES}")
    if not backup.is_file():
        raise InvalidSetting(f"there is no file {backup}")
    if file.exists() and backup.samefile(file):
        raise InvalidSetting(f"{backup} is the database itself")
    if file.exists() and not replace:
        raise InvalidSetting(f"{file} exists: --replace moves it aside and puts the backup in its place")
    return file


def restore(backup: Path, database_url: str, *, replace: bool) -> tuple[Path | None, SchemaState]:
    """Put a backup in the place of the database, whose process must own it.

    Return where the old one is kept, and the schema of the backup, which may be older than this code's. The old one is
    moved aside, whole, and only if ``replace`` allows it; the new one belongs to the same user. Raises InvalidSetting
    or SchemaMismatch, and changes nothing, where the backup is not one of this server's databases. One that is
    interrupted is done by the next one; no server starts before.
    """
    file = find_restored(backup, database_url, replace=replace)
    fresh = file.with_name(file.name + RESTORING)
    # Only the copy that is whole has this name. It keeps servers from starting until it has the database's.
    fresh.unlink(missing_ok=True)
    user = user_of(file)
    with _usable(backup), closing(_open(backup)) as connection:
        schema = _copy(connection, fresh)
    for made in (fresh, file.with_name(f"{file.name}.lock")):
        give(made, user)
    kept = _move_aside(file)
    fresh.rename(file)
    keep_private(file)
    sync_folder(file.parent)
    return kept if kept.exists() else None, schema


@contextmanager
def marked_in_use(database_url: str) -> Iterator[None]:
    """Note in a SQLite file itself that it is in use during the block, whose process must own it.

    Raises DatabaseUnavailable where that cannot be written.
    """
    file = database_file(database_url)
    if file is None:
        yield
        return
    with database_errors():
        _mark(file, _IN_USE)
    try:
        yield
    finally:
        # The server has reported it already, such as a full disk.
        with suppress(sqlite3.Error):
            _mark(file, _CLOSED)


def lacks_changes(database_url: str) -> bool:
    """Whether the file was copied while a server used it, without the file beside it that has the newest changes.

    True as well of a file that a server was killed on and another program has tidied since. Only before it is opened.
    """
    file = _file_behind(database_url)
    if file is None or not file.exists() or file.with_name(f"{file.name}-wal").exists():
        return False
    try:
        with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)) as connection:
            return _number(connection, "user_version") == _IN_USE
    except sqlite3.Error:
        # Whoever opens it says what is wrong with it.
        return False


_FOR_POSTGRES: Final = (
    "PostgreSQL has its own programs for this: `pg_dump --format=custom --file=FILE DATABASE` and "
    "`pg_restore --dbname=DATABASE FILE`"
)


def _file_behind(database_url: str) -> Path | None:
    """Return the file itself where the URL names a link to it: what stands beside it is there."""
    file = database_file(database_url)
    return None if file is None else Path(os.path.realpath(file))


def _existing_file(database_url: str) -> Path:
    file = database_file(database_url)
    if file is None:
        raise InvalidSetting(f"database_url: {_FOR_POSTGRES}")
    if not file.is_file():
        raise InvalidSetting(f"database_url: there is no file {file}")
    return file


def _open(file: Path) -> sqlite3.Connection:
    # Not read-only: SQLite could not use the changes beside the file then, where no server has them open.
    return sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True, timeout=_WAIT_SECONDS)


@contextmanager
def _usable(file: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise DatabaseInUse(f"{file} cannot be copied: {error}") from None
    except sqlite3.DatabaseError as error:
        raise SchemaMismatch(f"{file} is damaged, or no SQLite database: {error}") from None
    except OSError as error:
        raise InvalidSetting(f"{error.filename}: {error.strerror}") from None


def _copy(connection: sqlite3.Connection, target: Path) -> SchemaState:
    """Copy the database into a file that appears under its name once it is whole and on disk; return its schema."""
    schema = _check_schema(connection)
    partial = target.with_name(f"{target.name}.partial")
    with _alone(partial):
        if target.exists():
            raise InvalidSetting(f"{target} exists already: a backup replaces no file")
        with closing(sqlite3.connect(partial)) as copy:
            # In one step: one step sees one moment, and writers need not wait for it.
            connection.backup(copy, pages=-1)
            # One file, without others beside it.
            copy.execute("PRAGMA journal_mode=DELETE").close()
            copy.execute(f"PRAGMA user_version={_CLOSED}").close()
            (state,) = copy.execute("PRAGMA quick_check(1)").fetchone()
            if state != "ok":
                raise sqlite3.DatabaseError(state)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.rename(target)
        sync_folder(target.parent)
    return schema


@contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """Make the file, empty, for this user and the block alone; remove it where the block fails.

    Raises DatabaseInUse while another process writes it; what a killed one has left is overwritten.
    """
    descriptor = os.open(partial, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, OWN_MODE)
    try:
        if not _is_locked(partial, descriptor):
            raise DatabaseInUse(f"{partial} is being written by another process")
        os.ftruncate(descriptor, 0)
        os.fchmod(descriptor, OWN_MODE)
        try:
            yield
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    finally:
        os.close(descriptor)


def _is_locked(file: Path, descriptor: int) -> bool:
    """Lock the open file; return False where another process has, or had and has given it another name."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _check_schema(connection: sqlite3.Connection) -> SchemaState:
    """Return the schema; raise SchemaMismatch for no database of a server, or a newer one that this code cannot use."""
    revision = _value(connection, "alembic_version", "version_num")
    if revision is None:
        raise SchemaMismatch("this is no database of unpause: it has no schema of it")
    state = SchemaState(revision, _value(connection, "schema_compatibility", "oldest_code"))
    if state.is_ahead:
        state.require_supported()
    return state


def _value(connection: sqlite3.Connection, table: str, column: str) -> str | None:
    """Return the value in the only row of a table; None where there is none."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", [table]).fetchone() is None:
        return None
    found = connection.execute(f"SELECT {column} FROM {table}").fetchone()  # noqa: S608 - names of the code's own
    return None if found is None else str(found[0])


def _move_aside(file: Path) -> Path:
    """Give the file another name, after those beside it, and return that.

    Those are moved also where the file is gone: SQLite would take what they have for changes of the new one.
    """
    parts = [ending for ending in (*LEFTOVERS, "") if Path(f"{file}{ending}").exists()]
    number = 1
    # An interrupted restore may have moved some: the others follow them.
    while (kept := file.with_name(f"{file.name}.replaced-{number}")).exists() or any(
        Path(f"{kept}{ending}").exists() for ending in parts
    ):
        number += 1
    for ending in parts:
        Path(f"{file}{ending}").rename(f"{kept}{ending}")
    return kept


def _mark(file: Path, state: int) -> None:
    with closing(_open(file)) as connection:
        if _number(connection, "user_version") != state:
            connection.execute(f"PRAGMA user_version={state}").close()
            # The note is of use in the file alone, not beside it.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])
