"""Finds what a command wrote to a SQLite file beside its server, which no bus announces.

``unpause users erase`` cancels runs, and whoever waits for one of these has to learn of it. Where the file is not the
server's any more, nothing that a command writes reaches the server, such as that a token is revoked.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog

from unpause.store.run_queue import last_sequences

if TYPE_CHECKING:
    from unpause.store.engine.database import Database
    from unpause.streaming.bus import Bus


_log = structlog.get_logger(__name__)


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
        self._has_lost_its_file = False

    async def sweep(self) -> int:
        """Look at all followed runs; return how many have followers that read."""
        self._look_for_the_file()
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

    def _look_for_the_file(self) -> None:
        """Log once that the file is gone."""
        before, self._has_lost_its_file = self._has_lost_its_file, self._database.has_lost_its_file()
        if self._has_lost_its_file and not before:
            _log.error(
                "database file moved, replaced or deleted",
                hint="what is written from now on is lost, and commands do not reach this server: restart it",
            )
