"""Whether the database answers: logged once when it stops to, and once when it does again."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from unpause.errors import DatabaseUnavailable

_log = structlog.get_logger(__name__)


class Availability:
    """What the last statement of this process showed."""

    def __init__(self) -> None:
        self._since: float | None = None

    @property
    def is_away(self) -> bool:
        """Whether the database did not answer the last time."""
        return self._since is not None

    def note_away(self, error: DatabaseUnavailable) -> None:
        """Note that it did not answer."""
        if self._since is None:
            self._since = monotonic()
            cause = error.__cause__
            _log.error("database away", reason=error.message, error=type(cause).__name__ if cause else None)

    def note_back(self) -> None:
        """Note that it answered."""
        if self._since is not None:
            _log.warning("database back", seconds=round(monotonic() - self._since, 1))
            self._since = None
