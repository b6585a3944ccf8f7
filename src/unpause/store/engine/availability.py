"""Whether the database answers: logged once when it stops to, and once when it does again."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Final

import structlog

from unpause.errors import DatabaseFull

if TYPE_CHECKING:
    from unpause.errors import DatabaseUnavailable

_log = structlog.get_logger(__name__)

_LONGEST_DETAIL: Final = 300


class Availability:
    """What the last statement of this process showed."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._back_at = 0.0
        self._is_full = False

    @property
    def is_away(self) -> bool:
        """Whether the database did not answer the last time, or has no room."""
        return self._since is not None

    @property
    def is_full(self) -> bool:
        """Whether the database can be read, but has no room for what is written."""
        return self._is_full

    def note_away(self, error: DatabaseUnavailable, began: float) -> None:
        """Note that work did not get an answer, or found no room; ``began`` is when it did, by ``perf_counter``."""
        if began < self._back_at:
            # On a connection of before the outage that is over.
            return
        self._is_full = self._is_full or isinstance(error, DatabaseFull)
        if self._since is None:
            self._since = perf_counter()
            cause = error.__cause__
            _log.error(
                "database unavailable",
                reason=error.message,
                error=type(cause).__name__ if cause else None,
                detail=_detail(getattr(cause, "orig", cause)),
            )

    def note_back(self) -> None:
        """Note that it answered; one without room still answers what is read, and takes what is small."""
        if self._since is not None and not self._is_full:
            self._back_at = perf_counter()
            _log.warning("database available again", seconds=round(self._back_at - self._since, 1))
            self._since = None

    def note_room(self) -> None:
        """Note that it has taken much."""
        self._is_full = False
        self.note_back()


def _detail(error: BaseException | None) -> str | None:
    """Return the driver's own words, in one line. They name servers and files, and no value or password."""
    return None if error is None else " ".join(str(error).split())[:_LONGEST_DETAIL] or None
