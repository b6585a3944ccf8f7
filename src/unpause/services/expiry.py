"""Expires pauses, and sends reminders that are due."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from unpause.domain.events import Event, EventType
from unpause.domain.notifications import ChannelEvent
from unpause.domain.runs import RunStatus
from unpause.errors import DatabaseBusy, DatabaseUnavailable
from unpause.services.deadlines import LockedRun, announce, bring_up_to_date
from unpause.services.notification_outbox import enqueue_notifications
from unpause.store.events import add_events
from unpause.store.requirements import forget_reminders, has_due_runs, list_due_runs
from unpause.store.run_queue import lock_if_free
from unpause.store.runs import append_to_log, find_by_key
from unpause.webhooks.outbox import REMINDER, enqueue_webhooks

if TYPE_CHECKING:
    from unpause.services.context import ServiceContext
    from unpause.store.engine.database import Connection

# Runs that are expired at the same time: on SQLite these share a commit, on PostgreSQL each takes a connection.
_TOGETHER_ON_SQLITE, _TOGETHER = 16, 3


class Expiry:
    """Sweeps for what is due: one transaction a run, so that no run stops another."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._together = _TOGETHER if context.database.is_shared else _TOGETHER_ON_SQLITE

    async def sweep(self) -> int:
        """Do all that is due now; return the number of runs."""
        now = self._context.clock.now()
        database = self._context.database
        # Reading first keeps an idle server from writing every few seconds.
        is_any_due = await database.query(lambda connection: has_due_runs(connection, now))
        due = await database.read(lambda connection: list_due_runs(connection, now)) if is_any_due else []
        for first in range(0, len(due), self._together):
            await self._expire_some(due[first : first + self._together])
        return len(due)

    async def _expire_some(self, run_keys: list[int]) -> None:
        outcomes = await asyncio.gather(*map(self._expire_one, run_keys), return_exceptions=True)
        for run_key, outcome in zip(run_keys, outcomes, strict=True):
            if isinstance(outcome, DatabaseUnavailable) or not isinstance(outcome, Exception | None):
                raise outcome
            if outcome is not None:
                self._context.unreadable.note("runs", run_key, outcome)

    async def _expire_one(self, run_key: int) -> None:
        def unit(connection: Connection) -> LockedRun | None:
            # Other processes sweep, too; and a run that is locked for long must not hold up the others.
            run = find_by_key(connection, run_key) if lock_if_free(connection, run_key) else None
            if run is None or run.status is not RunStatus.PAUSED:
                return None
            locked = bring_up_to_date(connection, run, self._context.clock.now())
            return locked if locked.expired else locked._replace(events=_remind(connection, locked))

        try:
            locked = await self._context.database.write(unit, waits=False)
        except DatabaseBusy:
            # Some of its rows are locked: the next sweep finds it again.
            return
        if locked is not None:
            announce(locked, self._context.bus, self._context.dispatcher)


def _remind(connection: Connection, locked: LockedRun) -> tuple[Event, ...]:
    run, now = locked.run, locked.now
    waiting = [item for item in locked.requirements if item.pause_id == run.pause_id and item.is_open]
    due = [item for item in waiting if item.remind_at is not None and item.remind_at <= now]
    if not due:
        return ()
    forget_reminders(connection, run.id, now)
    moments = [item.expires_at for item in due if item.expires_at is not None]
    payload = {
        "pause_id": run.pause_id,
        "expires_at": min(moments).isoformat() if moments else None,
        "tool_call_ids": [item.tool_call_id for item in due],
    }
    last = append_to_log(connection, run.id, 1, now)
    enqueue_webhooks(connection, replace(run, last_sequence=last), now, due, message_type=REMINDER)
    enqueue_notifications(connection, run, now, due, event=ChannelEvent.EXPIRES_SOON)
    return add_events(connection, run.id, (Event(EventType.PAUSE_REMINDER, now, payload),), last)
