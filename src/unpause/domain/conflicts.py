"""Why a run's status does not allow a request: facts, which each API puts into its own words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.errors import InvalidTransition, PauseIsOver

if TYPE_CHECKING:
    from unpause.domain.runs import Run


def not_paused(run: Run) -> InvalidTransition:
    """Return the conflict of a request that needs a paused run."""
    return InvalidTransition(run.status.value, _continuation(run))


def pause_is_over(run: Run) -> PauseIsOver:
    """Return the conflict of a request that answers an earlier pause of the run."""
    return PauseIsOver(run.status.value, _continuation(run))


def _continuation(run: Run) -> dict[str, object]:
    return run.continuation.as_details() if run.continuation is not None else {}
