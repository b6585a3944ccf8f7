"""Runs with their input, calls and messages: the records that every layer passes around."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from unpause.domain.requirements import Requirement

# The `source_type` of runs that prepare a repository.
SETUP_COMMANDS = "SETUP_COMMANDS"


class RunStatus(StrEnum):
    """Where a run stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    ERROR = "ERROR"

    @property
    def is_final(self) -> bool:
        """Whether the run has ended."""
        return self in _FINAL


_FINAL = frozenset({RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.ERROR})


class EndReason(StrEnum):
    """Why a run ended in ERROR or CANCELLED."""

    MODEL_ERROR = "model_error"
    USAGE_LIMIT = "usage_limit"
    TOKEN_LIMIT = "token_limit"  # noqa: S105 - not a password
    AGENT_ERROR = "agent_error"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    CRASHED = "crashed"


class CallStatus(StrEnum):
    """How far a tool call got. A call that is STARTED after a crash is in doubt."""

    PROPOSED = "proposed"
    STARTED = "started"
    FINISHED = "finished"


class CallKind(StrEnum):
    """What the model's call is for. OUTPUT carries the agent's answer, which functions of the author's process."""

    TOOL = "tool"
    OUTPUT = "output"


class Outcome(StrEnum):
    """How a finished call ended."""

    SUCCESS = "success"
    FAILED = "failed"
    RETRIED = "retried"
    DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Image:
    """A picture or file of the user: its media type and base64 text without the data-URI prefix."""

    media_type: str
    data: str


@dataclass(frozen=True, slots=True)
class RunInput:
    """A prompt with pictures: the run's own (position 0), or that of a continue."""

    position: int
    prompt: str
    images: tuple[Image, ...] = ()
    consumed: bool = False


@dataclass(frozen=True, slots=True)
class Continuation:
    """Who continued the run last, when, through which API and with which decision."""

    at: datetime
    by: str | None
    via: str
    decision: str

    def as_details(self) -> dict[str, object]:
        """Return the keys of a conflict's body."""
        return {
            "continued_at": self.at.isoformat(),
            "continued_by": self.by,
            "continued_via": self.via,
            "decision": self.decision,
        }


@dataclass(frozen=True, slots=True)
class Run:
    """One row of ``runs``. ``id`` is Codegen's integer, ``run_id`` Agno's UUID; both name the same run.

    ``model_choice`` is the model that a client requested, by its name in the settings; ``awaiting`` describes what the
    present or last pause waits for; ``content`` is None for a pause without text of the model. ``traceback`` is that of
    a failed run, without secrets, for administrators only. ``frontend`` is what a client's front end brings, as
    ``domain.frontends`` reads it. ``trace`` is the context of the run's root span, and of the
    request that continued it last, where a process has traced them.
    """

    id: int
    run_id: str
    organization_id: int
    session_key: int
    session_id: str
    agent_id: str
    status: RunStatus
    source_type: str
    prompt: str
    fence: int
    last_sequence: int
    created_at: datetime
    updated_at: datetime
    user_id: str | None = None
    pause_id: str | None = None
    content: str | None = None
    content_type: str = "str"
    summary: str | None = None
    metadata: dict[str, Any] | None = None
    session_state: dict[str, Any] | None = None
    dependencies: dict[str, Any] | None = None
    model: str | None = None
    model_provider: str | None = None
    model_choice: str | None = None
    repo_id: int | None = None
    awaiting: str | None = None
    pause_requested_at: datetime | None = None
    usage: dict[str, int] | None = None
    end_reason: EndReason | None = None
    lease_expires_at: datetime | None = None
    crashes: int = 0
    ended_at: datetime | None = None
    traceback: str | None = None
    output_schema: dict[str, Any] | None = None
    frontend: dict[str, Any] | None = None
    trace: str | None = None
    continuation: Continuation | None = None

    @property
    def begun_at(self) -> datetime:
        """When its present or last segment was due: it was continued then, or created."""
        return self.created_at if self.continuation is None else self.continuation.at


@dataclass(frozen=True, slots=True)
class RunRef:
    """Names one run, by its integer ``id`` or its UUID ``run_id``.

    ``agent_id``, ``session_id`` and ``user_id``, where present, must be those of the run: else it is not found.
    """

    id: int | None = None
    run_id: str | None = None
    agent_id: str | None = None
    session_id: str | None = None
    user_id: str | None = None

    def __str__(self) -> str:
        return f"Run {self.id if self.run_id is None else self.run_id}"

    def matches(self, run: Run) -> bool:
        """Whether the run belongs to the agent, session and user of the reference; a run of nobody matches any."""
        pairs = ((self.agent_id, run.agent_id), (self.session_id, run.session_id), (self.user_id, run.user_id))
        return all(own is None or stored is None or own == stored for own, stored in pairs)


# The kind, in its record, of a result that is_unprocessed.
UNPROCESSED: Final = "unprocessed-tool-return"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call the model made. ``turn`` counts the model's answers in the run, from 0.

    ``tool_args`` are the arguments that the tool gets and people are shown; ``sent_args`` what the model sent, where
    the tool's validation changed it.
    ``result`` is the driver's own JSON of what the tool gave back; ``result_text`` what the model read.
    ``requirement`` is the newest one that this call waited or waits for.
    """

    tool_call_id: str
    tool_name: str
    tool_args: dict[str, Any]
    turn: int
    position: int
    created_at: datetime
    status: CallStatus = CallStatus.PROPOSED
    idempotent: bool = False
    outcome: Outcome | None = None
    result: Any = None
    result_text: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    sent_args: dict[str, Any] | None = None
    requirement: Requirement | None = None
    kind: CallKind = CallKind.TOOL

    @property
    def is_shown(self) -> bool:
        """Whether clients see it among the run's calls: an OUTPUT call only where it had a requirement."""
        return self.kind is CallKind.TOOL or self.requirement is not None

    @property
    def is_unprocessed(self) -> bool:
        """Whether its tool has run, and the agent's own code has still to see what the tool gave."""
        return self.status is CallStatus.FINISHED and is_unprocessed(self.result)

    @property
    def in_doubt(self) -> bool:
        """Whether it started, has no recorded end and must not run again without a decision."""
        return self.status is CallStatus.STARTED and not self.idempotent


def is_unprocessed(result: object) -> bool:
    """Whether a recorded result is still to be seen by the agent's own code: nobody else is shown it."""
    return isinstance(result, dict) and result.get("kind") == UNPROCESSED


@dataclass(frozen=True, slots=True)
class TranscriptEntry:
    """One message in neutral form, as clients read it: its role, its text and its tool calls."""

    id: str
    role: str
    content: str | None
    created_at: datetime
    tool_calls: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    tool_call_id: str | None = None
    tool_name: str | None = None
    tool_args: dict[str, Any] | None = None
    tool_call_error: bool | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a run: ``native`` is the driver's JSON, ``entries`` what clients are shown of it."""

    position: int
    native: Any
    entries: tuple[TranscriptEntry, ...]


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs of a session a list shows; None means any. Created from ``since`` on, and before ``until``."""

    statuses: frozenset[RunStatus] | None = None
    agent_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunSelection:
    """Which runs of an organization a list shows; None means any. ``user_id`` is the name that runs carry.

    ``ends`` has pairs of a status and an end reason, one of which the run has.
    """

    source_type: str | None = None
    user_id: str | None = None
    or_without_user: bool = False
    ends: frozenset[tuple[RunStatus, EndReason | None]] | None = None


@dataclass(frozen=True, slots=True)
class RunView:
    """A run with its calls, messages and requirements, as a client sees it."""

    run: Run
    tool_calls: tuple[ToolCall, ...] = ()
    messages: tuple[Message, ...] = ()
    requirements: tuple[Requirement, ...] = field(default=())
