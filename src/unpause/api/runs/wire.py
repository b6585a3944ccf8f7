"""Runs, timelines and overviews as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import from_json

from unpause.api.audit_json import audit_json
from unpause.api.native import moment
from unpause.domain.events import EventType
from unpause.domain.runs import RunStatus
from unpause.domain.spans import SpanKind
from unpause.domain.timeline import describe_requirement

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from unpause.domain.events import Event
    from unpause.domain.overview import Overview
    from unpause.domain.requirements import Answer, Requirement
    from unpause.domain.run_search import FoundRun, FoundRuns, RunDetails
    from unpause.domain.runs import Run
    from unpause.domain.timeline import Entry, Timeline

_LONGEST_TEXT = 20_000
_SEGMENT_ENDS = {
    EventType.RUN_PAUSED: RunStatus.PAUSED,
    EventType.RUN_COMPLETED: RunStatus.COMPLETED,
    EventType.RUN_FAILED: RunStatus.ERROR,
    EventType.RUN_CANCELLED: RunStatus.CANCELLED,
}


def run_page(found: FoundRuns, address: str) -> dict[str, Any]:
    """Return a page of a search; ``address`` is this server's URL, for the links."""
    return {
        "data": [run_item(run, address) for run in found.runs],
        "next": None if found.next is None else str(found.next),
    }


def run_item(run: FoundRun, address: str) -> dict[str, Any]:
    """Return a run in a list."""
    reason = None if run.end_reason is None else run.end_reason.value
    return {
        "run_id": run.run_id,
        "number": run.id,
        "agent_id": run.agent_id,
        "session_id": run.session_id,
        "user_id": run.user_id,
        "status": run.status.value,
        "source_type": run.source_type,
        "prompt": run.prompt,
        "created_at": moment(run.created_at),
        "updated_at": moment(run.updated_at),
        "ended_at": _optional(run.ended_at),
        "waiting_since": _optional(run.waiting_since),
        "open_requirements": run.open_requirements,
        "error": None if run.error is None else {"message": run.error, "reason": reason},
        "url": f"{address}/console/runs/{run.run_id}",
    }


def run_detail(details: RunDetails, address: str, *, for_admin: bool) -> dict[str, Any]:
    """Return a run with all that belongs to it; ``for_admin`` adds the traceback of one that failed."""
    run = details.view.run
    item = run_item(details.found, address)
    is_completed, is_paused = run.status is RunStatus.COMPLETED, run.status is RunStatus.PAUSED
    return {
        **item,
        "prompt": run.prompt,
        "error": _error(run, item["error"], for_admin=for_admin),
        "output": _output(run) if is_completed else None,
        "awaiting": run.awaiting if is_paused else None,
        "model": run.model,
        "usage": run.usage,
        "metadata": run.metadata,
        "last_event_id": run.last_sequence,
        "segments": _segments(details.steps, run.user_id),
        "requirements": [_requirement(item, address) for item in details.view.requirements],
        "audit": None if details.audit is None else [audit_json(entry) for entry in details.audit],
    }


def timeline_json(timeline: Timeline) -> dict[str, Any]:
    """Return the timeline."""
    return {
        "data": [_entry(entry) for entry in timeline.entries],
        "spans": [{"kind": span.kind.value, "at": moment(span.at), "seconds": span.seconds} for span in timeline.spans],
        "totals": {kind.value: timeline.total(kind) for kind in SpanKind},
        "status": timeline.run.status.value,
        "last_event_id": timeline.run.last_sequence,
        "truncated": timeline.is_truncated,
    }


def run_state(run: Run) -> dict[str, Any]:
    """Return the run's status after a request."""
    return {"run_id": run.run_id, "status": run.status.value}


def overview_json(overview: Overview, address: str) -> dict[str, Any]:
    """Return the overview."""
    return {
        "at": moment(overview.at),
        "runs": {status.value: overview.statuses.get(status, 0) for status in RunStatus},
        "waiting": {"p50": overview.wait_at(0.5), "p95": overview.wait_at(0.95), "decisions": len(overview.waits)},
        "decided_today": overview.decided_today,
        "oldest_waiting": _oldest(overview, address),
        "workers": _workers(overview),
        "webhooks": _webhooks(overview),
        "series": [
            {
                "at": moment(hour.at),
                "created": sum(hour.runs.values()),
                "completed": hour.runs.get(RunStatus.COMPLETED, 0),
                "failed": hour.runs.get(RunStatus.ERROR, 0),
                "decided": hour.decided,
            }
            for hour in overview.hours
        ],
    }


def _output(run: Run) -> object:
    """Return the result: an object as JSON, all else as text."""
    is_object = run.content is not None and run.content_type != "str" and run.content.startswith("{")
    return from_json(run.content or "") if is_object else run.content


def _error(run: Run, shown: dict[str, Any] | None, *, for_admin: bool) -> dict[str, Any] | None:
    if shown is None:
        return None
    traceback = {"traceback": run.traceback} if for_admin and run.traceback is not None else {}
    return {**shown, "message": run.content or "", **traceback}


def _entry(entry: Entry) -> dict[str, Any]:
    details = entry.details
    text = details.get("text")
    cut = {"text": text[:_LONGEST_TEXT]} if isinstance(text, str) else {}
    return {"kind": entry.kind.value, "at": moment(entry.at), "seconds": entry.seconds, **details, **cut}


def _segments(steps: Iterable[Event], user: str | None) -> list[dict[str, Any]]:
    segments: list[dict[str, Any]] = []
    for step in steps:
        if step.type.ends_segment:
            # A decision that leaves others open is logged as another pause, and a paused run may be cancelled.
            if segments and segments[-1]["ended_at"] is None:
                segments[-1] |= {"ended_at": moment(step.at), "status": _SEGMENT_ENDS[step.type].value}
            continue
        by = user if step.type is EventType.RUN_STARTED else step.payload.get("by")
        segments.append({"started_at": moment(step.at), "ended_at": None, "status": None, "started_by": by})
    return segments


def _requirement(requirement: Requirement, address: str) -> dict[str, Any]:
    rules = requirement.deciders
    return {
        **describe_requirement(requirement),
        "created_at": moment(requirement.created_at),
        "expires_at": _optional(requirement.expires_at),
        "votes": [{"by": vote.by, "at": moment(vote.at), "note": vote.note} for vote in requirement.votes],
        "quorum": 1 if rules is None else rules.quorum,
        "decision": None if requirement.answer is None else _decision(requirement.answer),
        "url": f"{address}/console/requests/{requirement.id}",
    }


def _decision(answer: Answer) -> dict[str, Any]:
    return {
        "decision": answer.decision.value,
        "by": answer.by,
        "at": moment(answer.at),
        "via": answer.via,
        "note": answer.note,
        "values": answer.values,
    }


def _oldest(overview: Overview, address: str) -> dict[str, Any] | None:
    oldest = overview.oldest_waiting
    if oldest is None:
        return None
    return {
        "requirement_id": oldest.requirement_id,
        "run_id": oldest.run_id,
        "agent_id": oldest.agent_id,
        "tool_name": oldest.tool_name,
        "since": moment(oldest.since),
        "seconds": max(0.0, (overview.at - oldest.since).total_seconds()),
        "url": f"{address}/console/requests/{oldest.requirement_id}",
    }


def _workers(overview: Overview) -> list[dict[str, Any]] | None:
    if overview.workers is None:
        return None
    return [
        {
            "name": worker.name,
            "version": worker.version,
            "agents": list(worker.agents),
            "started_at": moment(worker.started_at),
            "last_heartbeat": moment(worker.seen_at),
            "heartbeat_age_seconds": max(0.0, (overview.at - worker.seen_at).total_seconds()),
            "alive": worker.is_alive,
            "running": worker.running,
        }
        for worker in overview.workers
    ]


def _webhooks(overview: Overview) -> list[dict[str, Any]] | None:
    if overview.webhooks is None:
        return None
    return [
        {
            "server": failing.server,
            "retrying": failing.retrying,
            "given_up": failing.given_up,
            "last_error": failing.last_error,
            "last_at": moment(failing.last_at),
        }
        for failing in overview.webhooks
    ]


def _optional(at: datetime | None) -> str | None:
    return None if at is None else moment(at)
