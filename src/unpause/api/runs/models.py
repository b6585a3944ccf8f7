"""The responses about runs, for the OpenAPI document."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from unpause.api.audit_json import AuditEntryResponse
from unpause.domain.runs import EndReason, RunStatus
from unpause.domain.spans import SpanKind
from unpause.domain.timeline import EntryKind


class RunError(BaseModel):
    """Why a run ended early; lists have the beginning of the text."""

    message: str
    reason: EndReason | None
    traceback: str | None = Field(default=None, description="For administrators, where there is one")


class RunItem(BaseModel):
    """A run in a list."""

    run_id: str
    number: int = Field(description="The run's `id` in Codegen's API")
    agent_id: str
    session_id: str
    user_id: str | None
    status: RunStatus
    source_type: str
    prompt: str = Field(description="Its first 200 characters")
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    waiting_since: datetime | None = Field(description="Of a paused run")
    open_requirements: int = Field(description="What a paused run waits for; 0 where it was paused on request")
    error: RunError | None
    url: str = Field(description="The run's page in the console")


class RunPage(BaseModel):
    """A page of a search. It may have fewer runs than its limit, also where `next` is not null."""

    data: list[RunItem]
    next: str | None = Field(description="The `cursor` of the next page")


class Segment(BaseModel):
    """One uninterrupted execution: from the start or a continue, to a pause or the end."""

    started_at: datetime
    ended_at: datetime | None
    status: RunStatus | None = Field(description="PAUSED or a final status; null for a segment that goes on")
    started_by: str | None


class RunDecision(BaseModel):
    """How a requirement was decided, by whom, when and through which API."""

    decision: str
    by: str | None
    at: datetime
    via: str
    note: str | None
    values: dict[str, Any] | None


class RunVote(BaseModel):
    """One of the confirmations that a call needs."""

    by: str
    at: datetime
    note: str | None


class RunRequirementItem(BaseModel):
    """What the run waits or waited for."""

    requirement_id: str
    tool_call_id: str
    tool_name: str
    arguments: dict[str, Any]
    kind: str = Field(description="`confirmation`, `user_input`, `external_execution` or `question`")
    in_doubt: bool
    created_at: datetime
    expires_at: datetime | None
    votes: list[RunVote]
    quorum: int
    decision: RunDecision | None
    url: str = Field(description="Its page in the console")


class RunDetail(RunItem):
    """A run with what it waits for and its result."""

    prompt: str = Field(description="The whole prompt")
    output: str | dict[str, Any] | None = Field(description="The result of a completed run: text, or an object")
    awaiting: str | None = Field(description="What a paused run waits for, in words")
    model: str | None
    usage: dict[str, int] | None
    metadata: dict[str, Any] | None
    last_event_id: int = Field(description="Number of the newest event: `Last-Event-ID` to follow the run from here")
    segments: list[Segment]
    requirements: list[RunRequirementItem]
    audit: list[AuditEntryResponse] | None = Field(description="For administrators, else null")


class TimelineEntry(BaseModel):
    """One thing that happened. The other keys depend on `kind`; those without a value are absent."""

    kind: EntryKind
    at: datetime
    seconds: float | None = Field(description="Null for a moment, and for what goes on")
    role: str | None = Field(default=None, description="Of a message: `user` or `assistant`")
    text: str | None = Field(default=None, description="Of a message, a result or the end; cut after 20,000 characters")
    by: str | None = None
    via: str | None = None
    note: str | None = None
    images: int | None = Field(default=None, description="Of a user's message: the number of its images")
    prompt: int | None = Field(default=None, description="Of a user's message: the number of the prompt, from 0")
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    tool_call_id: str | None = None
    tool_name: str | None = None
    arguments: dict[str, Any] | None = None
    outcome: str | None = None
    pause_id: str | None = None
    requirement_id: str | None = None
    requirements: list[PausedCall] | None = None
    decision: str | None = None
    values: dict[str, Any] | None = None
    status: RunStatus | None = Field(default=None, description="Of the end")


class PausedCall(BaseModel):
    """A call that a pause is about."""

    requirement_id: str
    tool_call_id: str
    tool_name: str
    arguments: dict[str, Any]
    kind: str
    in_doubt: bool
    is_open: bool


class TimelineSpan(BaseModel):
    """A part of the run's time; the spans follow one another."""

    kind: SpanKind
    at: datetime
    seconds: float


class TimelineTotals(BaseModel):
    """Where the seconds of the run went so far."""

    queued: float
    model: float
    tools: float
    waiting: float
    other: float


class RunTimeline(BaseModel):
    """What happened in a run so far, oldest first."""

    data: list[TimelineEntry]
    spans: list[TimelineSpan]
    totals: TimelineTotals
    status: RunStatus
    last_event_id: int
    truncated: bool = Field(description="Whether the run has more events than were read")


class RunState(BaseModel):
    """A run's status after the request."""

    run_id: str
    status: RunStatus


class OldestWaiting(BaseModel):
    """The open requirement that has waited longest."""

    requirement_id: str
    run_id: str
    agent_id: str
    tool_name: str
    since: datetime
    seconds: float
    url: str


class WaitingTimes(BaseModel):
    """How long the decisions of the last day took, in seconds; null without decisions."""

    p50: float | None
    p95: float | None
    decisions: int


class WorkerItem(BaseModel):
    """A process that executes runs."""

    name: str
    version: str
    agents: list[str]
    started_at: datetime
    last_heartbeat: datetime
    heartbeat_age_seconds: float = Field(description="How long before `at` that was")
    alive: bool
    running: int | None = Field(description="Runs that it executed at its last heartbeat; null for an older version")


class WebhookFailures(BaseModel):
    """A server that messages of the last day could not be delivered to."""

    server: str
    retrying: int
    given_up: int
    last_error: str
    last_at: datetime


class OverviewHour(BaseModel):
    """An hour: the runs created in it, how these stand now, and the decisions in it."""

    at: datetime
    created: int
    completed: int
    failed: int
    decided: int


class OverviewResponse(BaseModel):
    """The state of the organization's runs, at most a second old."""

    at: datetime
    runs: dict[RunStatus, int] = Field(
        description="Runs by status: of PENDING, RUNNING and PAUSED all, of the others those created in the last day"
    )
    waiting: WaitingTimes
    decided_today: int = Field(description="Decisions of people since midnight UTC")
    oldest_waiting: OldestWaiting | None
    workers: list[WorkerItem] | None = Field(description="For administrators, else null")
    webhooks: list[WebhookFailures] | None = Field(description="For administrators, else null")
    series: list[OverviewHour] = Field(description="The last 24 hours, oldest first")


MODELS: tuple[type[BaseModel], ...] = (RunPage, RunDetail, RunTimeline, RunState, OverviewResponse)
