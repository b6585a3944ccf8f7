"""From the server's words to Codegen's JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unpause.domain.runs import EndReason, RunStatus

if TYPE_CHECKING:
    from unpause.domain.runs import Run

# Codegen's words (codegen.md section 5).
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


def agent_run(run: Run, address: str) -> dict[str, Any]:
    """Return an ``AgentRunResponse`` with all ten keys; ``address`` is this server's, for the link."""
    status = _ENDED_BY.get(run.end_reason) if run.end_reason is not None else None
    return {
        "id": run.id,
        "organization_id": run.organization_id,
        "status": status or _STATUS[run.status],
        "created_at": run.created_at.isoformat(),
        "web_url": f"{address}/agents/{run.agent_id}/runs/{run.run_id}",
        "result": run.content,
        "summary": run.summary,
        "source_type": run.source_type,
        "github_pull_requests": [],
        "metadata": run.metadata,
    }
