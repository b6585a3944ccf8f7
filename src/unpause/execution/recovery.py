"""Takes runs back whose worker is gone: at a start those of the process before, among many those with a stale lease."""

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
from unpause.store.engine.moments import read_now
from unpause.store.events import add_events
from unpause.store.run_queue import list_stale, lock_if_free, lock_if_stale
from unpause.store.runs import find_by_key, list_unfinished, transition
from unpause.store.unreadable import CANNOT_BE_READ, Unreadable
from unpause.webhooks.outbox import tell_webhooks

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from unpause.clock import Clock
    from unpause.domain.runs import Run
    from unpause.services.dispatcher import Dispatcher
    from unpause.store.engine.database import Connection, Database
    from unpause.streaming.bus import Bus

_log = structlog.get_logger(__name__)

_AT_ONCE = 500


class Recovery:
    """Makes left runs PENDING again, or ends those under which one worker after the other died."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        dispatcher: Dispatcher,
        clock: Clock,
        max_crashes: int,
        patience: timedelta = timedelta(),
    ) -> None:
        """``patience`` is how long after the database was away everybody gets to renew the leases that ended then."""
        self._database = database
        self._bus = bus
        self._dispatcher = dispatcher
        self._clock = clock
        self._max_crashes = max_crashes
        self._patience = patience.total_seconds()
        # Since when the database has been there, by the monotonic clock; None before the first look, and while away.
        self._there_since: float | None = None
        # When the monotonic clock began, by the database's clock at the last look.
        self._started: float | None = None
        # Runs that are passed over, since what is stored of them cannot be read. As many as there were at the last look
        # are looked for beside the others, so that they leave room for these.
        self.unreadable = Unreadable()
        self._passed_over = 0

    async def take_back_all(self) -> int:
        """Take back whatever is RUNNING, and return how many runs that was.

        Only for a database that one process owns: there, at the start, nobody executes anything.
        """
        left = await self._database.read(lambda connection: list_unfinished(connection, RunStatus.RUNNING))
        return await self._take_back(left, lock_if_free)

    async def sweep(self) -> int:
        """Take back the runs whose lease is stale; return how many."""
        now, asked = self._clock.now(), monotonic()
        try:
            most = _AT_ONCE + self._passed_over
            shown, stale = await self._database.read(
                lambda connection: (read_now(connection, now), list_stale(connection, now, most))
            )
        except DatabaseUnavailable:
            self._there_since = None
            raise
        answered = monotonic()
        if self._there_since is None or answered - asked > self._patience or self._has_stepped(shown, answered):
            self._there_since = answered
        if answered - self._there_since < self._patience:
            # Nobody could renew a lease while the database was away, or before its clock jumped: those who live must
            # not be taken for dead.
            return 0
        return await self._take_back(stale, partial(lock_if_stale, now=now))

    def _has_stepped(self, shown: datetime, at: float) -> bool:
        """Whether the database's clock has jumped ahead since the last look, which would end leases before their time.

        So does another database that takes over from this one.
        """
        started = shown.timestamp() - at
        before, self._started = self._started, started
        return before is not None and started - before > self._patience / 2

    async def _take_back(self, run_keys: list[int], lock: Callable[[Connection, int], bool]) -> int:
        count = self._passed_over = 0
        for run_key in run_keys:
            try:
                unit = partial(self._release, run_key=run_key, lock=lock)
                run, events = await self._database.write(unit, waits=False)
            except DatabaseBusy:
                # Something of it is locked: the next sweep finds it again.
                continue
            except CANNOT_BE_READ as error:
                self.unreadable.note("runs", run_key, error)
                self._passed_over += 1
                continue
            if run is None:
                continue
            count += 1
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
            # Somebody writes to it just now, or froze when he did: the others must not wait for that. Or its worker was
            # heard of meanwhile, or somebody else has taken it back and claimed it.
            return None, ()
        run = find_by_key(connection, run_key)
        if run is None or run.status is not RunStatus.RUNNING:
            return None, ()
        changes = {"updated_at": now, "lease_expires_at": None, "crashes": run.crashes + 1}
        if run.crashes + 1 < self._max_crashes:
            return transition(connection, run.id, Trigger.RELEASE, fence=run.fence, changes=changes), ()
        message = f"The run's worker died {run.crashes + 1} times while it executed the run"
        ending = {
            **changes,
            "events": 1,
            "content": message,
            "end_reason": EndReason.CRASHED.value,
            "ended_at": now,
            "pause_id": None,
        }
        ended = transition(connection, run.id, Trigger.FAIL, fence=run.fence, changes=ending)
        tell_webhooks(connection, ended, now)
        event = Event(EventType.RUN_FAILED, now, {"content": message, "reason": EndReason.CRASHED.value})
        return ended, add_events(connection, run.id, (event,), ended.last_sequence)
