"""Keeps the clock of this process in step with the database's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.clock import elapsed_seconds
from unpause.store.run_queue import read_clock

if TYPE_CHECKING:
    from unpause.clock import SystemClock
    from unpause.store.engine.database import Database

# After a slower answer the time in it is too old.
_SLOW_SECONDS = 0.5


class ClockSync:
    """Sets the clock at each sweep. Implements ``execution.sweeper.Sweep``."""

    def __init__(self, database: Database, clock: SystemClock) -> None:
        self._database = database
        self._clock = clock

    async def sweep(self) -> int:
        """Set the clock, unless the database answers slowly; return 1 if it was set."""
        began = elapsed_seconds()
        shown = await self._database.query(read_clock)
        if elapsed_seconds() - began > _SLOW_SECONDS:
            return 0
        self._clock.synchronize(shown)
        return 1
