"""Ends a run before its agent does: it was cancelled, or a requirement expired."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from unpause.domain.approvals import ApprovalStatus
from unpause.domain.events import Event, EventType
from unpause.domain.inbox import RequirementStatus
from unpause.domain.runs import EndReason, RunStatus
from unpause.domain.transitions import Trigger
from unpause.store.approvals import close_approvals
from unpause.store.engine.changes import note_details
from unpause.store.events import add_events
from unpause.store.requirements import close_requirements
from unpause.store.runs import transition
from unpause.webhooks.outbox import enqueue_webhooks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from unpause.domain.runs import Run
    from unpause.store.engine.database import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """Why a run ends: its last content, the status of its open approvals, and the payload of its last event."""

    trigger: Trigger = Trigger.CANCEL
    reason: EndReason = EndReason.CANCELLED
    approvals: ApprovalStatus = ApprovalStatus.CANCELLED
    content: str
    payload: Mapping[str, Any] = field(default_factory=dict)


def cancel(connection: Connection, run: Run, why: Cancellation, now: datetime) -> tuple[Run, tuple[Event, ...]]:
    """End the run, close its approvals, enqueue its webhooks; return the ended run and the event to publish.

    Raises InvalidTransition where the run's status does not allow the trigger; then nothing changed.
    """
    changes = {
        "events": 1,
        "content": why.content,
        "end_reason": why.reason.value,
        "ended_at": now,
        "updated_at": now,
        "lease_expires_at": None,
        "pause_id": None,
    }
    ended = transition(connection, run.id, why.trigger, changes=changes).run
    note_details(connection, by=why.payload.get("by"))
    close_approvals(connection, run.id, why.approvals, now)
    if run.status is RunStatus.PAUSED:
        expired = why.reason is EndReason.EXPIRED
        status = RequirementStatus.EXPIRED if expired else RequirementStatus.CANCELLED
        close_requirements(connection, run.id, status, now)
    enqueue_webhooks(connection, ended, now)
    event = Event(EventType.RUN_CANCELLED, now, dict(why.payload))
    return ended, add_events(connection, run.id, (event,), ended.last_sequence)
