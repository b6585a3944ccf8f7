"""Events for clients older than AG-UI 1.0, such as those in CopilotKit 1.74 and in assistant-ui's adapter 0.0.58."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ag_ui.core import RunErrorEvent, RunFinishedCancelledOutcome, RunFinishedEvent, RunFinishedSuccessOutcome

if TYPE_CHECKING:
    from ag_ui.core import BaseEvent


def for_older_client(event: BaseEvent) -> BaseEvent:
    """Return the event, or what an older client understands in its place."""
    if not isinstance(event, RunFinishedEvent):
        return event
    if isinstance(event.outcome, RunFinishedCancelledOutcome):
        return RunErrorEvent(message="The run was cancelled", code="cancelled")
    if isinstance(event.outcome, RunFinishedSuccessOutcome):
        # Such a client looks itself for calls without a result.
        return event.model_copy(update={"outcome": RunFinishedSuccessOutcome()})
    return event
