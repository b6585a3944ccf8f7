"""Translates the exceptions of drivers: the database is unavailable or busy, or two requests collided."""

from __future__ import annotations

import re
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, PendingRollbackError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from unpause.errors import Collision, DatabaseBusy, DatabaseFull, DatabaseUnavailable, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from unpause.errors import UnpauseError

_log = structlog.get_logger(__name__)

# SQLSTATE classes for a server that cannot be reached, lacks memory or connections, is stopping, has closed this one
# because its transaction was idle, has cancelled a statement, cannot use its disk, or is a standby.
_UNAVAILABLE = ("08", "53", "57", "25P03", "58", "25006")
READ_ONLY = "25006"
LOCK_NOT_AVAILABLE = "55P03"
DEADLOCK = "40P01"
# A key that exists already, or a row that is gone; every other violation of a constraint is a bug.
_COLLISIONS = ("23503", "23505")
_SQLITE_COLLISIONS = ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_FOREIGNKEY")
_SQLITE_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")
# A server that refuses a connection says so without a state.
_TOO_MANY = re.compile(r"too many (?:clients|connections)|connection slots|no more connections allowed")
_SQLITE_FULL = "SQLITE_FULL"
# The disk failed, such as one that was detached, or that had no room for the index of the write-ahead log.
_SQLITE_UNAVAILABLE = ("SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")


class LockTimeout(DatabaseBusy):
    """A lock is held for longer than the statement may wait."""


class TransactionAborted(DatabaseBusy):
    """The database aborted this transaction in favour of another: it can be retried at once."""


class TooManyConnections(DatabaseUnavailable):
    """The server refused another connection; nothing was executed."""

    def __init__(self) -> None:
        super().__init__("The database takes no more connections")


_BY_STATE: Mapping[str, type[DatabaseBusy | DatabaseUnavailable]] = {
    LOCK_NOT_AVAILABLE: LockTimeout,
    # A deadlock, or a snapshot that is too old to be written on.
    DEADLOCK: TransactionAborted,
    "40001": TransactionAborted,
    "53100": DatabaseFull,
}


@contextmanager
def database_errors() -> Iterator[None]:
    """Translate what a driver raises into the errors of the server; let everything else through."""
    try:
        yield
    except DBAPIError as error:
        raise _translated(error) or StorageError from error
    except sqlite3.OperationalError as error:
        # A BEGIN, which SQLAlchemy does not see.
        raise _sqlite_error(error) or StorageError from error
    except StatementError as error:
        # A parameter cannot be represented in the database; the text holds the statement.
        raise StorageError from error
    except (PoolTimeout, PendingRollbackError, OSError) as error:
        # A pending rollback: the connection was lost within the transaction, and a later statement used it, such as the
        # rollback of one unit of a batch.
        raise DatabaseUnavailable from error


def _sqlite_error(error: BaseException | None) -> UnpauseError | None:
    name = str(getattr(error, "sqlite_errorname", None) or "")
    if name.startswith(_SQLITE_BUSY):
        return LockTimeout()
    if name == _SQLITE_FULL:
        return DatabaseFull()
    return DatabaseUnavailable() if name.startswith(_SQLITE_UNAVAILABLE) else None


def _translated(error: DBAPIError) -> UnpauseError | None:
    state = str(getattr(error.orig, "sqlstate", None) or "")
    name = str(getattr(error.orig, "sqlite_errorname", None) or "")
    if isinstance(error, IntegrityError) and (state in _COLLISIONS or name in _SQLITE_COLLISIONS):
        # Not the text of the driver, which quotes values.
        constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
        _log.warning("request collided with another one", constraint=constraint)
        return Collision()
    if name:
        return _sqlite_error(error.orig)
    if state in _BY_STATE:
        return _BY_STATE[state]()
    if not state and _TOO_MANY.search(str(error.orig)):
        return TooManyConnections()
    # Without a state the server did not answer: refused, lost, or timed out.
    silent = not state and isinstance(error, OperationalError)
    return DatabaseUnavailable() if error.connection_invalidated or silent or state.startswith(_UNAVAILABLE) else None
