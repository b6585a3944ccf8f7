"""Translates the exceptions of drivers: the database is unavailable or busy, or two requests collided."""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError, PendingRollbackError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from unpause.errors import Collision, DatabaseBusy, DatabaseUnavailable, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unpause.errors import UnpauseError

_log = structlog.get_logger(__name__)

# SQLSTATE classes for a server that cannot be reached, is stopping, takes no more connections, or has closed this one
# because its transaction was idle.
_UNAVAILABLE = ("08", "53300", "57P0", "25P03")
LOCK_NOT_AVAILABLE = "55P03"
# A deadlock, or a snapshot that is too old to be written on.
_CLASHES = ("40P01", "40001")
# A key that exists already, or a row that is gone; every other violation of a constraint is a bug.
_COLLISIONS = ("23503", "23505")
_SQLITE_COLLISIONS = ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_FOREIGNKEY")
_SQLITE_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")


class LockTimeout(DatabaseBusy):
    """A lock is held for longer than the statement may wait."""


class Clash(DatabaseBusy):
    """The database aborted this transaction in favour of another: it can be retried at once."""


@contextmanager
def database_errors() -> Iterator[None]:
    """Translate what a driver raises into the errors of the server; let everything else through."""
    try:
        yield
    except DBAPIError as error:
        raise _translated(error) or StorageError from error
    except sqlite3.OperationalError as error:
        # A BEGIN, which SQLAlchemy does not see.
        raise (LockTimeout if _is_busy(error) else StorageError) from error
    except StatementError as error:
        # A parameter cannot be represented in the database; the text holds the statement.
        raise StorageError from error
    except (PoolTimeout, PendingRollbackError, OSError) as error:
        # A pending rollback: the connection was lost within the transaction, and a later statement used it, such as the
        # rollback of one unit of a batch.
        raise DatabaseUnavailable from error


def _is_busy(error: BaseException | None) -> bool:
    return str(getattr(error, "sqlite_errorname", None) or "").startswith(_SQLITE_BUSY)


def _translated(error: DBAPIError) -> UnpauseError | None:
    state = str(getattr(error.orig, "sqlstate", None) or "")
    name = str(getattr(error.orig, "sqlite_errorname", None) or "")
    if isinstance(error, IntegrityError) and (state in _COLLISIONS or name in _SQLITE_COLLISIONS):
        # Not the text of the driver, which quotes values.
        constraint = getattr(getattr(error.orig, "diag", None), "constraint_name", None)
        _log.warning("request collided with another one", constraint=constraint)
        return Collision()
    if state == LOCK_NOT_AVAILABLE or _is_busy(error.orig):
        return LockTimeout()
    if state in _CLASHES:
        return Clash()
    # Without a state the server did not answer: refused, lost, or timed out.
    silent = not state and not name and isinstance(error, OperationalError)
    return DatabaseUnavailable() if error.connection_invalidated or silent or state.startswith(_UNAVAILABLE) else None
