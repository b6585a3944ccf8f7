"""Forgets runs that ended long ago: in the background, and for the command line."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from unpause.domain.audit import AuditAction, AuditEntry
from unpause.store.audit import add_entries
from unpause.store.retention import delete_empty_sessions, delete_ended_runs

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from unpause.clock import Clock
    from unpause.store.engine.database import Connection, Database

# Runs of one transaction: on SQLite all other writers wait for it.
BATCH: Final = 50
# Of one sweep, so that a server with a million old runs has time for new ones.
_BATCHES: Final = 20


class Retention:
    """Sweeps for runs that ended longer ago than ``keep_ended_runs``, and for sessions that have none left."""

    def __init__(self, database: Database, clock: Clock, keep_ended_runs: timedelta) -> None:
        self._database = database
        self._clock = clock
        self._keep = keep_ended_runs

    async def sweep(self) -> int:
        """Delete some of what is due; return the number of runs."""
        deleted = 0
        for _ in range(_BATCHES):
            now = self._clock.now()
            batch = await self._database.write(lambda connection: self._purge(connection, now))  # noqa: B023 - at once
            deleted += batch
            if batch < BATCH:
                break
        return deleted

    def _purge(self, connection: Connection, now: datetime) -> int:
        return purge_batch(connection, now - self._keep, now, via="retention")


def purge_batch(
    connection: Connection, before: datetime, now: datetime, organization_id: int | None = None, *, via: str
) -> int:
    """Delete a batch of runs that ended before, and note it in each organization's trail; return how many.

    Once there are none any more, sessions without runs follow.
    """
    found = Counter(delete_ended_runs(connection, before, BATCH, organization_id))
    if found.total() < BATCH:
        delete_empty_sessions(connection, before, BATCH, organization_id)
    add_entries(
        connection,
        [
            AuditEntry(
                organization_id=organization,
                at=now,
                action=AuditAction.RUNS_PURGED,
                via=via,
                details={"runs": count, "ended_before": before.isoformat()},
            )
            for organization, count in sorted(found.items())
        ],
    )
    return found.total()
