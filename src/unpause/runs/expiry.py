"""What happens to pauses that nobody answered in time, and to keys that are too old."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from unpause.domain.approvals import ApprovalStatus
from unpause.domain.audit import AuditAction, done_by
from unpause.domain.events import Event, EventType
from unpause.domain.principal import Principal
from unpause.domain.requirements import Answer, Decision, OnExpire, RequirementKind
from unpause.domain.runs import EndReason, RunStatus
from unpause.domain.transitions import Trigger
from unpause.runs.cancelling import Cancelling, cancel
from unpause.runs.commands import ContinueRun
from unpause.runs.continuing import Continuing
from unpause.runs.notices import REMINDER, tell_webhooks
from unpause.store.approvals import resolve
from unpause.store.audit import add_entries
from unpause.store.events import add_events
from unpause.store.idempotency import delete_requests, has_requests
from unpause.store.requirements import forget_reminders, list_due_runs, list_requirements
from unpause.store.runs import append_to_log, find_by_key

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from unpause.domain.requirements import Requirement
    from unpause.domain.runs import Run
    from unpause.runs.service import ServiceTools
    from unpause.store.database import Connection

_AT_ONCE = 100
_TOO_LATE = "Nobody answered in time"
_APPROVAL_TOO_LATE = "The approval expired: nobody decided in time"

_EXPIRED = Cancelling(
    trigger=Trigger.EXPIRE,
    reason=EndReason.EXPIRED,
    approvals=ApprovalStatus.EXPIRED,
    content=_TOO_LATE,
    payload={"reason": _TOO_LATE},
)

_Outcome = tuple[bool, tuple[Event, ...]]


class Expiry:
    """Looks for what is due and does it: one transaction a run."""

    def __init__(self, tools: ServiceTools, keep_keys: timedelta) -> None:
        self._tools = tools
        self._keep_keys = keep_keys

    async def sweep(self) -> int:
        """Do all that is due now; return how many runs it was about."""
        now = self._tools.clock.now()
        database = self._tools.database
        oldest = now - self._keep_keys
        # Reading first keeps an idle server from writing every few seconds.
        due, old_keys = await database.read(
            lambda connection: (list_due_runs(connection, now, _AT_ONCE), has_requests(connection, oldest))
        )
        for run_key in due:
            await self._expire(run_key, now)
        if old_keys:
            await database.write(lambda connection: delete_requests(connection, oldest))
        return len(due)

    async def _expire(self, run_key: int, now: datetime) -> None:
        def unit(connection: Connection) -> _Outcome:
            # Other processes look for the same.
            run = find_by_key(connection, run_key, locked=True)
            if run is None or run.status is not RunStatus.PAUSED:
                return False, ()
            return _expire_run(connection, run, now)

        moved, events = await self._tools.database.write(unit)
        self._tools.bus.publish(run_key, events)
        if moved:
            self._tools.dispatcher.ready(run_key)


def _expire_run(connection: Connection, run: Run, now: datetime) -> _Outcome:
    requirements = list_requirements(connection, run.id)
    waiting = [item for item in requirements if item.pause_id == run.pause_id and item.is_open]
    expired = [item for item in waiting if item.expires_at is not None and item.expires_at <= now]
    if not expired:
        return False, _remind(connection, run, waiting, now)
    nobody = Principal(run.organization_id, via="expiry")
    if any(item.on_expire is OnExpire.CANCEL for item in expired):
        done = done_by(nobody, AuditAction.CANCELLED, now, run_id=run.run_id, subject=run.run_id, note=_TOO_LATE)
        add_entries(connection, [done])
        return False, cancel(connection, run, _EXPIRED, now)[1]
    for item in expired:
        if item.approval == "required":
            resolve(connection, item.id, ApprovalStatus.EXPIRED, {"updated_at": now})
    answers = {item.id: _answer(item, now) for item in expired}
    continuing = Continuing(nobody, ContinueRun(), now)
    continued, events = continuing.decide(connection, run, requirements, answers)
    return continued.moved, events


def _answer(requirement: Requirement, now: datetime) -> Answer:
    approves = (
        requirement.on_expire is OnExpire.APPROVE
        and requirement.kind is RequirementKind.CONFIRMATION
        and requirement.approval != "required"
        # What may already have run is never run again because nobody looked.
        and not requirement.in_doubt
    )
    if approves:
        return Answer(Decision.CONFIRMED, now, via="expiry")
    note = _APPROVAL_TOO_LATE if requirement.approval == "required" else _TOO_LATE
    return Answer(Decision.REJECTED, now, note=note, via="expiry")


def _remind(connection: Connection, run: Run, waiting: list[Requirement], now: datetime) -> tuple[Event, ...]:
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
    tell_webhooks(connection, replace(run, last_sequence=last), now, due, message_type=REMINDER)
    return add_events(connection, run.id, (Event(EventType.PAUSE_REMINDER, now, payload),), last)
