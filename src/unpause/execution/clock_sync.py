"""Keeps this process's clock with that of the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.clock import seconds_gone_by
from unpause.store.run_queue import read_clock

if TYPE_CHECKING:
    from unpause.clock import SystemClock
    from unpause.store.engine.database import Database

# An answer that took longer says little about the present.
_SLOW_SECONDS = 0.5


class ClockSync:
    """Sets the clock again and again. Implements ``execution.sweeper.Sweep``."""

    def __init__(self, database: Database, clock: SystemClock) -> None:
        self._database = database
        self._clock = clock

    async def sweep(self) -> int:
        """Set the clock, unless the database is slow to answer; return how often that was."""
        asked = seconds_gone_by()
        shown = await self._database.read(read_clock)
        if seconds_gone_by() - asked > _SLOW_SECONDS:
            return 0
        self._clock.set_by(shown)
        return 1
