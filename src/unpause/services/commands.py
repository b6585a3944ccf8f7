"""Commands on runs and their outcomes: the same objects for every API."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from unpause.domain.approvals import Approval
from unpause.domain.frontends import Frontend
from unpause.domain.grants import GrantRequest
from unpause.domain.inbox import InboxItem
from unpause.domain.output_schema import OutputSchema
from unpause.domain.requirements import Requirement, ToolAnswer
from unpause.domain.runs import Image, Run
from unpause.domain.webhooks import WebhookTarget
from unpause.streaming.follow import Begun


@dataclass(frozen=True, slots=True)
class CreateRun:
    """Create a run. ``session_id`` None or empty starts a new session.

    ``output_schema`` is what the answer is to fit instead of what the agent's own would.
    ``model`` is one of those that the settings allow. ``webhooks`` get the messages about this run instead of the
    organization's; None keeps those. ``frontend`` is what the client runs and shows to the model itself. With
    ``in_turn`` the session takes no run of the agent before its newest one has ended.
    """

    agent_id: str
    prompt: str
    session_id: str | None = None
    images: tuple[Image, ...] = ()
    source_type: str = "API"
    metadata: dict[str, Any] | None = None
    session_state: dict[str, Any] | None = None
    dependencies: dict[str, Any] | None = None
    output_schema: OutputSchema | None = None
    model: str | None = None
    repo_id: int | None = None
    webhooks: tuple[WebhookTarget, ...] | None = None
    frontend: Frontend | None = None
    in_turn: bool = False


@dataclass(frozen=True, slots=True)
class ContinueRun:
    """Send a paused run on.

    The ``answers`` decide their calls and have to fit what is open; without a prompt, what they do not decide stays
    open. A ``prompt`` decides all the rest: open questions take it as their answer, everything else is declined with it
    as the note; and the model reads it, with the ``images``, as the user's prompt. A ``pause_id`` must be that
    of the present pause. ``model`` runs the rest of it; ``webhooks`` replace those of the run. With ``approves`` the
    answers also decide what waits for an administrator, where the caller is one.
    """

    answers: tuple[ToolAnswer, ...] = ()
    prompt: str | None = None
    images: tuple[Image, ...] = ()
    pause_id: str | None = None
    model: str | None = None
    webhooks: tuple[WebhookTarget, ...] | None = None
    approves: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """The outcome of a create or continue.

    ``after`` is the number of the run's last event before it: follow from there to see what it caused. ``moved`` is
    False while answers are still missing. ``answer`` is what was answered before to the same Idempotency-Key, if
    anything was. ``begun`` helps to follow the segment where that begins at once, in this process.
    """

    run: Run
    after: int
    moved: bool = True
    answer: str | None = None
    begun: Begun | None = None


@dataclass(frozen=True, slots=True)
class ResolveApproval:
    """Decide a pending approval; ``data`` may bring the values or the result that the call also needs."""

    approval_id: str
    approved: bool
    data: dict[str, Any] | None = None
    remember: GrantRequest | None = None


class Verb(StrEnum):
    """What a person does about a requirement."""

    APPROVE = "approve"
    REJECT = "reject"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class DecideRequirement:
    """Decide one requirement, and with ``continues`` send its run on once nothing is open any more.

    ``values`` fill in the form, ``arguments`` replace editable ones, ``result`` is that of a call that is run
    elsewhere, ``words`` answer a question. ``remember`` has the decision count for later calls, too.
    """

    requirement_id: str
    verb: Verb
    note: str | None = None
    values: dict[str, Any] | None = None
    arguments: dict[str, Any] | None = None
    result: str | None = None
    words: str | None = None
    continues: bool = True
    remember: GrantRequest | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """A requirement as a decision left it, its run, and whether that went on.

    ``answer`` is what the same Idempotency-Key was answered.
    """

    item: InboxItem
    run: Run
    continued: bool = False
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """A decided approval and the requirement it decided; ``answer`` is what the same Idempotency-Key was answered."""

    approval: Approval
    requirement: Requirement
    answer: str | None = None
