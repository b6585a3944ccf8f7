"""Why a run does not take what a request would do to it."""

from __future__ import annotations

from unpause.domain.runs import Run, RunStatus
from unpause.errors import InvalidTransition

_NOT_PAUSED = {
    RunStatus.PENDING: "run is already running",
    RunStatus.RUNNING: "run is already running",
    RunStatus.PAUSED: "run is paused",
    RunStatus.COMPLETED: "run is already continued",
    RunStatus.CANCELLED: "run is already cancelled",
    RunStatus.ERROR: "run is already errored",
}


def not_paused(run: Run) -> InvalidTransition:
    """Return the conflict that says where the run stands and who brought it there (texts: agno.md 6.6)."""
    details = run.continuation.as_details() if run.continuation is not None else {}
    return InvalidTransition(_NOT_PAUSED[run.status], run.status.value, {"status": run.status.value, **details})


def already_ended(run: Run) -> InvalidTransition:
    """Return the conflict of something that only an unfinished run can take."""
    return InvalidTransition(f"run has ended: {run.status.value}", run.status.value, {"status": run.status.value})
