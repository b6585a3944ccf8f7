"""Decides the expired requirements of a paused run before anything else about the run is decided.

So an answer counts until its requirement expires and never after, at whatever time the sweep runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from unpause.domain.approvals import ApprovalStatus
from unpause.domain.audit import AuditAction, entry_by
from unpause.domain.conflicts import not_paused
from unpause.domain.principal import Principal
from unpause.domain.requirements import Answer, Decision, OnExpire, RequirementKind
from unpause.domain.runs import EndReason, RunStatus
from unpause.domain.transitions import Trigger
from unpause.errors import RequirementExpired
from unpause.services.cancel_run import Cancellation, cancel
from unpause.services.commands import ContinueRun
from unpause.services.continue_run import ContinueHandler
from unpause.store.approvals import resolve
from unpause.store.audit import add_entries
from unpause.store.requirements import list_requirements, list_timed
from unpause.store.runs import find_by_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from unpause.domain.events import Event
    from unpause.domain.requirements import Requirement, ToolAnswer
    from unpause.domain.runs import Run, ToolCall
    from unpause.errors import InvalidTransition
    from unpause.services.claims import Slot
    from unpause.services.context import Dispatcher, ServiceContext
    from unpause.store.engine.database import Connection
    from unpause.streaming.bus import Bus

_TOO_LATE = "Nobody answered in time"
_APPROVAL_TOO_LATE = "The approval expired: nobody decided in time"


class LockedRun(NamedTuple):
    """A locked run whose expired requirements are decided.

    ``expired`` are those requirements, ``events`` the events of their decisions; the run has ``moved`` on where nothing
    else was open. ``now`` is the database's time. The requirements of a run that is not PAUSED are not read. ``calls``
    are the run's calls, where they were read and have not changed since.
    """

    run: Run
    requirements: list[Requirement]
    now: datetime
    calls: Sequence[ToolCall] | None = None
    expired: tuple[Requirement, ...] = ()
    events: tuple[Event, ...] = ()
    moved: bool = False

    def refusal_of(self, answers: Sequence[ToolAnswer], prompt: str | None) -> InvalidTransition | None:
        """Return the conflict of a request that answers an expired requirement; None for every other request."""
        if not self.expired:
            return None
        if self.run.status is not RunStatus.PAUSED:
            return not_paused(self.run)
        decided = {answer.tool_call_id for answer in answers if answer.decides}
        late = [item for item in self.expired if prompt is not None or item.tool_call_id in decided]
        return _late(self.run, late[0]) if late else None


def bring_up_to_date(connection: Connection, run: Run, own: datetime) -> LockedRun:
    """Decide the expired requirements of a locked run and return it as it is then; ``own`` is this process's time."""
    if run.status is not RunStatus.PAUSED:
        return LockedRun(run, [], own)
    requirements, calls, now = list_timed(connection, run.id, own)
    waiting = [item for item in requirements if item.pause_id == run.pause_id and item.is_open]
    expired = tuple(item for item in waiting if item.expires_at is not None and item.expires_at <= now)
    if not expired:
        return LockedRun(run, requirements, now, calls)
    moved, events = _expire(connection, run, requirements, expired, now)
    after = find_by_key(connection, run.id) or run
    return LockedRun(after, list_requirements(connection, run.id), now, None, expired, events, moved)


def announce(locked: LockedRun, bus: Bus, dispatcher: Dispatcher, *, is_claimed: bool = False) -> None:
    """Announce a committed change to the run's followers, and to executors unless it ``is_claimed`` already."""
    bus.publish(locked.run.id, locked.events)
    bus.requirements_changed(locked.run.id)
    if locked.moved and not is_claimed:
        dispatcher.ready(locked.run.id)


def announce_outcome(context: ServiceContext, slot: Slot | None, outcome: tuple[LockedRun, object]) -> None:
    """Announce what a transaction that could claim the run for the slot has changed, first in its outcome."""
    is_claimed = slot is not None and slot.commit()
    announce(outcome[0], context.bus, context.dispatcher, is_claimed=is_claimed)


def _expire(
    connection: Connection,
    run: Run,
    requirements: Sequence[Requirement],
    expired: Sequence[Requirement],
    now: datetime,
) -> tuple[bool, tuple[Event, ...]]:
    """Decide the expired requirements by their ``on_expire``; return whether the run moved on, and the events."""
    nobody = Principal(run.organization_id, via="expiry")
    cancelling = next((item for item in expired if item.on_expire is OnExpire.CANCEL), None)
    if cancelling is not None:
        reason = _reason(cancelling)
        done = entry_by(nobody, AuditAction.CANCELLED, now, run_id=run.run_id, subject=run.run_id, note=reason)
        add_entries(connection, [done])
        return False, cancel(connection, run, _cancellation(reason), now)[1]
    for item in expired:
        if item.awaits_approval:
            resolve(connection, item.id, ApprovalStatus.EXPIRED, {"updated_at": now})
    answers = {item.id: _answer(item, now) for item in expired}
    handler = ContinueHandler(connection, run, requirements, nobody, ContinueRun(), now)
    continued, events = handler.decide(answers)
    return continued.moved, events


def _cancellation(reason: str) -> Cancellation:
    return Cancellation(
        trigger=Trigger.EXPIRE,
        reason=EndReason.EXPIRED,
        approvals=ApprovalStatus.EXPIRED,
        content=reason,
        payload={"reason": reason},
    )


def _answer(requirement: Requirement, now: datetime) -> Answer:
    approves = (
        requirement.on_expire is OnExpire.APPROVE
        and requirement.kind is RequirementKind.CONFIRMATION
        and requirement.approval != "required"
        # A call that may already have run never runs again without a human's yes.
        and not requirement.in_doubt
    )
    if approves:
        return Answer(Decision.CONFIRMED, now, via="expiry")
    return Answer(Decision.REJECTED, now, note=_reason(requirement), via="expiry")


def _reason(requirement: Requirement) -> str:
    """Return what was missing at the deadline; the text mentions the decisions that did come."""
    rules = requirement.deciders
    if requirement.approval == "required" and not requirement.awaits_approval:
        missing = "its result" if requirement.kind is RequirementKind.EXTERNAL_EXECUTION else "the values it needs"
        return f"The call was approved in time, but {missing} did not come in time"
    if rules is not None and requirement.votes:
        return f"{len(requirement.votes)} of {rules.quorum} people confirmed the call in time, which is too few"
    return _APPROVAL_TOO_LATE if requirement.approval == "required" else _TOO_LATE


def _late(run: Run, requirement: Requirement) -> RequirementExpired:
    moment = None if requirement.expires_at is None else requirement.expires_at.isoformat()
    return RequirementExpired(run.status.value, requirement.label, moment)
