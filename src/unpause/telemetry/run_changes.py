"""Reports each committed change of a run's status: a line of the log, and the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import structlog

from unpause.domain.runs import RunStatus
from unpause.domain.transitions import Trigger
from unpause.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unpause.domain.changes import RunChange

_log = structlog.get_logger(__name__)

_EVENTS: Final = {
    None: "run created",
    Trigger.CLAIM: "run claimed",
    Trigger.RELEASE: "run released",
    Trigger.PAUSE: "run paused",
    Trigger.CONTINUE: "run continued",
}
_ENDED: Final = "run ended"


def report_changes(changes: Sequence[RunChange]) -> None:
    """Report what a transaction did to runs. Called after its commit, in the context of its caller."""
    for change in changes:
        _log_change(change)
        _count(change)


def _log_change(change: RunChange) -> None:
    run = change.run
    log = _log.warning if run.status is RunStatus.ERROR else _log.info
    fields = {"run_id": run.run_id, "agent": run.agent_id, "organization": run.organization_id}
    more = {name: value for name, value in {**_specific(change), **change.details}.items() if value is not None}
    log(_EVENTS.get(change.trigger, _ENDED), **fields, **more)


def _count(change: RunChange) -> None:
    run, trigger = change.run, change.trigger
    metrics.TRANSITIONS.labels("create" if trigger is None else trigger.value, run.agent_id).inc()
    if change.claimed and trigger is not Trigger.CLAIM:
        metrics.TRANSITIONS.labels(Trigger.CLAIM.value, run.agent_id).inc()
    if run.status.is_final:
        reason = "" if run.end_reason is None else run.end_reason.value
        metrics.ENDED.labels(run.agent_id, run.status.value, reason).inc()
    # A run that was released and claimed again started before.
    if change.claimed and (run.continuation is not None or run.fence == 1):
        waited = max(0.0, (run.updated_at - run.begun_at).total_seconds())
        metrics.STARTED_AFTER.labels("create" if run.continuation is None else "continue").observe(waited)
    if trigger is Trigger.CONTINUE and "waited_seconds" in change.details:
        metrics.PAUSED_FOR.observe(change.details["waited_seconds"])


def _specific(change: RunChange) -> dict[str, Any]:
    """Return what is worth knowing of this change: never a text of a model, nor a value of a call."""
    run = change.run
    match change.trigger:
        case None:
            return {"by": run.user_id, "claimed": change.claimed}
        case Trigger.CLAIM:
            return {"fence": run.fence}
        case Trigger.PAUSE:
            return {"pause_id": run.pause_id}
        case Trigger.RELEASE:
            return {"crashes": run.crashes}
        case Trigger.CONTINUE if run.continuation is not None:
            done = run.continuation
            return {"by": done.by, "via": done.via, "decision": done.decision, "claimed": change.claimed}
        case _:
            reason = None if run.end_reason is None else run.end_reason.value
            return {"status": run.status.value, "reason": reason}
