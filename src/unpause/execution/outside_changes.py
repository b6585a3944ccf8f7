"""Finds what a command wrote to a SQLite file beside its server, which no bus announces.

``unpause users erase`` cancels runs, and whoever waits for one of these has to learn of it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from unpause.store.run_queue import last_sequences

if TYPE_CHECKING:
    from unpause.store.engine.database import Database
    from unpause.streaming.bus import Bus


class OutsideChanges:
    """Has followers read the log of a run that grew, or is gone, without an announcement.

    Implements ``execution.sweeper.Sweep``. PostgreSQL's bus does so by itself.
    """

    def __init__(self, database: Database, bus: Bus) -> None:
        self._database = database
        self._bus = bus
        # How far the log of each followed run had come at the last sweep, unless it was being written here.
        self._known: dict[int, int | None] = {}
        self._position = bus.position()

    async def sweep(self) -> int:
        """Look at all followed runs; return how many have followers that read."""
        bus, since = self._bus, self._position
        self._position = bus.position()
        quiet = [run_key for run_key in bus.followed() if not bus.has_published(run_key, since)]
        if not quiet:
            self._known = {}
            return 0
        last = await self._database.read(partial(last_sequences, run_keys=quiet))
        known, self._known = self._known, {run_key: last.get(run_key) for run_key in quiet}
        changed = [run_key for run_key in quiet if run_key not in known or known[run_key] != self._known[run_key]]
        for run_key in changed:
            bus.wake(run_key)
        return len(changed)
