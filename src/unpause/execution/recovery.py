"""Recovers the runs of dead workers: at a start those of the process before, among nodes those with a stale lease."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING

import structlog

from unpause.domain.events import Event, EventType
from unpause.domain.runs import EndReason, RunStatus
from unpause.domain.transitions import Trigger
from unpause.errors import DatabaseBusy, DatabaseUnavailable
from unpause.services.notification_outbox import enqueue_notifications
from unpause.settings import LONGEST_LEASE_SECONDS
from unpause.store.engine.dialects import read_now
from unpause.store.events import add_events
from unpause.store.run_lists import list_unfinished
from unpause.store.run_queue import list_stale, lock_if_free, lock_if_stale
from unpause.store.runs import find_by_key, transition
from unpause.store.unreadable import CANNOT_BE_READ, UnreadableRows
from unpause.telemetry.metrics import RECOVERED
from unpause.webhooks.outbox import enqueue_webhooks

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from unpause.clock import Clock
    from unpause.domain.runs import Run
    from unpause.services.context import Dispatcher
    from unpause.store.engine.database import Connection, Database
    from unpause.streaming.bus import Bus

_log = structlog.get_logger(__name__)

_BATCH = 500
# Whatever ends later was written before the database's clock went back.
_LONGEST_LEASE = timedelta(seconds=LONGEST_LEASE_SECONDS)


class Recovery:
    """Makes the runs of dead workers PENDING again, and ends a run that kills its workers again and again."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        dispatcher: Dispatcher,
        clock: Clock,
        max_crashes: int,
        patience: timedelta = timedelta(),
    ) -> None:
        """``patience`` is half of a lease.

        Nodes get so long, after an outage of the database, to renew leases that expired in it.
        """
        self._database = database
        self._bus = bus
        self._dispatcher = dispatcher
        self._clock = clock
        self._max_crashes = max_crashes
        self._patience = patience.total_seconds()
        # Since when the database is available, by the monotonic clock; None before the first sweep and in an outage.
        self._there_since: float | None = None
        # When the monotonic clock began, by the database's clock at the last sweep.
        self._started: float | None = None
        # Runs that cannot be read are skipped; the next sweep lists that many more, so that they take no other's place.
        self.unreadable = UnreadableRows()
        self._passed_over = 0

    async def take_back_all(self) -> int:
        """Recover all RUNNING runs and return their number.

        Only for a database that one process owns: at its start nothing is executed.
        """
        left = await self._database.read(lambda connection: list_unfinished(connection, RunStatus.RUNNING))
        return await self._take_back(left, lock_if_free)

    async def sweep(self) -> int:
        """Recover the runs with a stale lease; return their number."""
        now, began = self._clock.now(), monotonic()
        try:
            limit = _BATCH + self._passed_over
            shown, stale = await self._database.read(
                lambda connection: (
                    read_now(connection, now),
                    list_stale(connection, now, limit, _LONGEST_LEASE),
                )
            )
        except DatabaseUnavailable:
            self._there_since = None
            raise
        answered = monotonic()
        if self._there_since is None or answered - began > self._patience or self._has_stepped(shown, answered):
            self._there_since = answered
        if answered - self._there_since < self._patience:
            # Live workers could not renew their leases in an outage, or before the clock jumped.
            return 0
        return await self._take_back(stale, partial(lock_if_stale, now=now, longest=_LONGEST_LEASE))

    def _has_stepped(self, shown: datetime, at: float) -> bool:
        """Whether the database's clock has jumped since the last sweep.

        Ahead it expires leases too early, back it makes them look too long. A standby that takes over may have such a
        clock, too.
        """
        started = shown.timestamp() - at
        before, self._started = self._started, started
        return before is not None and abs(started - before) > self._patience / 2

    async def _take_back(self, run_keys: list[int], lock: Callable[[Connection, int], bool]) -> int:
        count = self._passed_over = 0
        for run_key in run_keys:
            try:
                unit = partial(self._release, run_key=run_key, lock=lock)
                run, events = await self._database.write(unit, waits=False)
            except DatabaseBusy:
                # Some of its rows are locked: the next sweep finds it again.
                continue
            except CANNOT_BE_READ as error:
                self.unreadable.note("runs", run_key, error)
                self._passed_over += 1
                continue
            if run is None:
                continue
            count += 1
            RECOVERED.labels("worker").inc()
            _log.warning("run recovered from a dead worker", run_id=run.run_id, crashes=run.crashes)
            self._bus.publish(run.id, events)
            if run.status is RunStatus.PENDING:
                self._dispatcher.ready(run.id)
        return count

    def _release(
        self, connection: Connection, run_key: int, lock: Callable[[Connection, int], bool]
    ) -> tuple[Run | None, tuple[Event, ...]]:
        now = self._clock.now()
        if not lock(connection, run_key):
            # It is locked, perhaps by a frozen process, and no other run must wait for that; or its lease was renewed,
            # or another node has recovered it.
            return None, ()
        run = find_by_key(connection, run_key)
        if run is None or run.status is not RunStatus.RUNNING:
            return None, ()
        return release_crashed(connection, run, self._max_crashes, now)


def release_crashed(connection: Connection, run: Run, max_crashes: int, now: datetime) -> tuple[Run, tuple[Event, ...]]:
    """Make a run PENDING again whose worker, or agent process, died under it; end it where that was once too often."""
    crashes = run.crashes + 1
    changes = {"updated_at": now, "lease_expires_at": None, "crashes": crashes}
    if crashes < max_crashes:
        return transition(connection, run.id, Trigger.RELEASE, fence=run.fence, changes=changes).run, ()
    message = f"The run's worker died {crashes} times while it executed the run"
    ending = {
        **changes,
        "events": 1,
        "content": message,
        "end_reason": EndReason.CRASHED.value,
        "ended_at": now,
        "pause_id": None,
    }
    ended = transition(connection, run.id, Trigger.FAIL, fence=run.fence, changes=ending).run
    enqueue_webhooks(connection, ended, now)
    enqueue_notifications(connection, ended, now)
    event = Event(EventType.RUN_FAILED, now, {"content": message, "reason": EndReason.CRASHED.value})
    return ended, add_events(connection, run.id, (event,), ended.last_sequence)
