"""Requests that come too late or answer too little: what a client is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.api.native import moment
from unpause.domain.conflicts import not_paused
from unpause.domain.requirements import Decision
from unpause.domain.runs import RunStatus
from unpause.errors import AlreadyDecided, Conflict, NotFound, RequirementsOpen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unpause.domain.requirements import Requirement
    from unpause.domain.runs import Run
    from unpause.errors import UnpauseError
    from unpause.services.threads import Thread

_PAST = {Decision.CONFIRMED: "approved", Decision.REJECTED: "rejected", Decision.ANSWERED: "answered"}


class Refused(Exception):
    """The conversation does not allow the request; ``thread`` is as it was found, for the client to go on from."""

    def __init__(self, error: UnpauseError, thread: Thread) -> None:
        super().__init__(error.message)
        self.error = error
        self.thread = thread


def open_interrupts(thread: Thread, missing: Sequence[Requirement] | None = None) -> RequirementsOpen:
    """Return the error of a request that does not answer all that is open."""
    items = thread.open if missing is None else missing
    named = ", ".join(f"{item.id} ({item.tool_name}, call {item.call_id})" for item in items)
    if not named and thread.run is not None:
        named = f"{thread.run.pause_id} (the run was paused)"
    error = RequirementsOpen(f"The next run of the thread must answer all that is open; missing: {named}")
    error.details = {"missing": [item.id for item in items], "missingToolCallIds": [item.call_id for item in items]}
    return error


def unknown_interrupts(thread: Thread) -> UnpauseError:
    """Return the error of a resume whose interrupts this conversation does not have, with nothing else to do."""
    run = thread.newest
    if run is not None and run.status is not RunStatus.PAUSED and run.continuation is not None:
        return too_late(not_paused(run))
    return UnknownInterrupt()


class UnknownInterrupt(NotFound):
    """No interrupt of the conversation has this id."""

    code = "UNKNOWN_INTERRUPT"

    def __init__(self) -> None:
        super().__init__("This thread has no interrupt with the ids in resume")


def already_decided(requirement: Requirement, run: Run) -> Conflict:
    """Return the conflict that tells who was first, when, through which API and with which decision."""
    answer, call = requirement.answer, f"Tool call {requirement.call_id} ({requirement.tool_name})"
    if answer is None:
        return AlreadyDecided(f"{call} cannot be decided any more: the run is {run.status.value}", {"decision": None})
    word, at = _PAST[answer.decision], moment(answer.at)
    by = answer.by or ("nobody in time" if answer.via == "expiry" else "somebody")
    first = {"decision": word, "by": answer.by, "at": at, "via": answer.via, "note": answer.note}
    return AlreadyDecided(f"{call} was already {word} by {by} through {answer.via} at {at}", {"decision": first})


def too_late(error: Conflict) -> Conflict:
    """Return the conflict with who continued the run, where that is known, in its words."""
    details = error.details
    if "continued_at" not in details:
        return error
    by, via = details.get("continued_by") or "somebody", details.get("continued_via")
    return AlreadyDecided(
        f"The run was already continued by {by} through {via} at {details['continued_at']}: {details.get('decision')}",
        details,
    )
