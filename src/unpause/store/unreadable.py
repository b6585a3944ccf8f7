"""Rows that this version cannot read, such as those of a newer one: they are logged, and hold up no others."""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from unpause.errors import RunUnreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sqlalchemy import Column, Select
    from sqlalchemy.engine import Connection, RowMapping

K = TypeVar("K")
T = TypeVar("T")

_log = structlog.get_logger(__name__)

# What reading such a row raises: an unknown status, invalid JSON or an invalid time, a missing key.
_SENSELESS = (ValueError, TypeError, LookupError, AttributeError)
CANNOT_BE_READ = (*_SENSELESS, RunUnreadable)

_SILENT_SECONDS = 60.0
_LONGEST_REASON = 200
# More than these are counted and not remembered: each is then logged whenever it is met.
_MAX_REMEMBERED = 10_000


@contextmanager
def readable() -> Iterator[None]:
    """Raise RunUnreadable where a row of a run, read within the block, makes no sense."""
    try:
        yield
    except _SENSELESS as error:
        raise RunUnreadable from error


class UnreadableRows:
    """Logs each such row once a minute, and counts how often one was met."""

    def __init__(self, time: Callable[[], float] = monotonic) -> None:
        self._time = time
        self._logged: dict[tuple[str, object], float] = {}
        self.count = 0

    def note(self, table: str, key: object, error: Exception) -> None:
        """Note that the row of that key was passed over, and why."""
        self.count += 1
        now, name = self._time(), (table, key)
        if now - self._logged.get(name, -_SILENT_SECONDS) < _SILENT_SECONDS:
            return
        if len(self._logged) >= _MAX_REMEMBERED:
            self._logged.clear()
        self._logged[name] = now
        _log_row(table, key, error)


def read_rows(connection: Connection, query: Select[Any], key: Column[Any], read: Callable[[RowMapping], T]) -> list[T]:
    """Return what ``read`` makes of each row of a list; those that it cannot read are left out, and logged.

    ``key`` is the primary key of what is listed.
    """
    try:
        return [read(row) for row in connection.execute(query).mappings()]
    except CANNOT_BE_READ:
        keys = list(connection.execute(query.with_only_columns(key)).scalars())
    alone = query.order_by(None).limit(None).offset(None)

    def read_one(name: object) -> T:
        return read(connection.execute(alone.where(key == name)).mappings().one())

    return read_each(key.table.name, keys, read_one)


def read_each(table: str, keys: Iterable[K], read: Callable[[K], T]) -> list[T]:
    """Return what ``read`` makes of each key; those of rows that it cannot read are left out, and logged."""
    found: list[T] = []
    for key in keys:
        try:
            found.append(read(key))
        except CANNOT_BE_READ as error:
            _log_row(table, key, error)
    return found


def _log_row(table: str, key: object, error: BaseException) -> None:
    error = error.__cause__ or error
    # The first line: what follows may repeat what the row holds.
    reason = next(iter(str(error).splitlines()), "")[:_LONGEST_REASON]
    _log.error("row passed over: it cannot be read", table=table, id=key, error=type(error).__name__, reason=reason)
