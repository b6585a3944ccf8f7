"""The words of errors whose texts are part of both APIs' contracts."""

from __future__ import annotations

from typing import Final

from unpause.errors import (
    InvalidTransition,
    PauseIsOver,
    RequirementExpired,
    RunHasEnded,
    RunLimitReached,
    UnpauseError,
)

# Codegen's own, with its spelling.
RUN_LIMIT: Final = (
    "Alloted agent runs for the current billing plan have been reached. Please upgrade your plan to continue."
)
ALREADY_RUNNING: Final = "run is already running"
_ALREADY_CONTINUED = "run is already continued"
_NOT_PAUSED = {
    "PENDING": ALREADY_RUNNING,
    "RUNNING": ALREADY_RUNNING,
    "PAUSED": "run is paused",
    "COMPLETED": _ALREADY_CONTINUED,
    "CANCELLED": "run is already cancelled",
    "ERROR": "run is already errored",
}


def text_of(error: UnpauseError) -> str:
    """Return the text that clients of either API see."""
    match error:
        case RunLimitReached():
            return RUN_LIMIT
        case PauseIsOver():
            return _ALREADY_CONTINUED
        case RunHasEnded() | RequirementExpired():
            return error.message
        case InvalidTransition():
            return _NOT_PAUSED[error.status]
        case _:
            return error.message
