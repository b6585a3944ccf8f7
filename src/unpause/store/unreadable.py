"""Rows that this version cannot read, such as those that a newer one wrote: they are named, and stop nobody else."""

from __future__ import annotations

from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from unpause.errors import RunUnreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_log = structlog.get_logger(__name__)

_SILENT_SECONDS = 60.0
_LONGEST_REASON = 200
# More than these are counted and not remembered: each is then logged whenever it is met.
_MOST_REMEMBERED = 10_000


@contextmanager
def readable() -> Iterator[None]:
    """Raise RunUnreadable where a row of a run, read within the block, makes no sense."""
    try:
        yield
    except (ValueError, TypeError, KeyError) as error:
        raise RunUnreadable from error


class Unreadable:
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
        if len(self._logged) >= _MOST_REMEMBERED:
            self._logged.clear()
        self._logged[name] = now
        # The first line: what follows may repeat what the row holds.
        reason = next(iter(str(error).splitlines()), "")[:_LONGEST_REASON]
        _log.error("row passed over: it cannot be read", table=table, id=key, error=type(error).__name__, reason=reason)
