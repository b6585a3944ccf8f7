"""Runs as Codegen's JSON."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from unpause.domain.runs import EndReason, RunStatus

if TYPE_CHECKING:
    from unpause.domain.runs import Run

_STATUS = {
    RunStatus.PENDING: "ACTIVE",
    RunStatus.RUNNING: "ACTIVE",
    RunStatus.PAUSED: "PAUSED",
    RunStatus.COMPLETED: "COMPLETE",
    RunStatus.CANCELLED: "CANCELLED",
    RunStatus.ERROR: "ERROR",
}
_ENDED_BY = {
    EndReason.USAGE_LIMIT: "MAX_ITERATIONS_REACHED",
    EndReason.TOKEN_LIMIT: "OUT_OF_TOKENS",
    EndReason.EXPIRED: "TIMEOUT",
}


def agent_run(run: Run, address: str, *, for_admin: bool = False) -> dict[str, Any]:
    """Return an ``AgentRunResponse`` with all ten keys; ``address`` is this server's URL, for the link.

    ``result`` is the run's last text; while it is paused, what it waits for. ``for_admin`` adds the traceback of one
    that failed.
    """
    traceback = {"traceback": run.traceback} if for_admin and run.traceback is not None else {}
    return {
        **traceback,
        "id": run.id,
        "organization_id": run.organization_id,
        "status": status_word(run),
        "created_at": run.created_at.isoformat(),
        "web_url": web_url(run, address),
        "result": result_of(run),
        "summary": run.summary,
        "source_type": run.source_type,
        "github_pull_requests": [],
        "metadata": run.metadata,
    }


def ends_of(word: str) -> frozenset[tuple[RunStatus, EndReason | None]]:
    """Return the pairs of a status and an end reason that Codegen's clients know by this word."""
    return frozenset(pair for pair in product(RunStatus, (None, *EndReason)) if _word_of(*pair) == word)


def _word_of(status: RunStatus, reason: EndReason | None) -> str:
    return (_ENDED_BY.get(reason) if reason is not None else None) or _STATUS[status]


def status_word(run: Run) -> str:
    """Return the run's status, or the limit that ended it."""
    return _word_of(run.status, run.end_reason)


def web_url(run: Run, address: str) -> str:
    """Return the URL of the run's page on this server."""
    return f"{address}/agents/{run.agent_id}/runs/{run.run_id}"


def result_of(run: Run) -> str | None:
    """Return what a paused run waits for, or the last text of one that has ended; None while it runs."""
    # Runs that an older version paused have no ``awaiting``.
    return (run.awaiting or run.content) if run.status is RunStatus.PAUSED else run.content
