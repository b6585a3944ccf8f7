"""A search for runs, and what a list shows of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from unpause.domain.audit import AuditEntry
from unpause.domain.events import Event
from unpause.domain.runs import EndReason, RunStatus, RunView


@dataclass(frozen=True, slots=True)
class RunSearch:
    """Which runs to list, newest first; None and an empty set mean any.

    ``text`` is a part of the prompt, the beginning of the run's UUID, or its integer id. ``before`` is the key that
    ``FoundRuns.next`` of the page before had.
    """

    statuses: frozenset[RunStatus] = frozenset()
    agent_id: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    text: str | None = None
    before: int | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run in a list: ``prompt`` and ``error`` are the beginnings of the texts.

    ``waiting_since`` and ``open_requirements`` are those of a paused run's present pause.
    """

    id: int
    run_id: str
    agent_id: str
    session_id: str
    status: RunStatus
    source_type: str
    prompt: str
    created_at: datetime
    updated_at: datetime
    user_id: str | None = None
    ended_at: datetime | None = None
    end_reason: EndReason | None = None
    error: str | None = None
    waiting_since: datetime | None = None
    open_requirements: int = 0


@dataclass(frozen=True, slots=True)
class FoundRuns:
    """A page of a search; ``next`` continues it, and is None after the last page. A page may have fewer runs."""

    runs: list[FoundRun] = field(default_factory=list)
    next: int | None = None


@dataclass(frozen=True, slots=True)
class RunDetails:
    """One run with everything about it.

    ``steps`` are the events that begin and end its segments. ``audit`` are its newest entries, None for callers who may
    not read the audit trail.
    """

    found: FoundRun
    view: RunView
    steps: list[Event]
    audit: list[AuditEntry] | None = None
