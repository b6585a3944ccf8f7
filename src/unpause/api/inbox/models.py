"""The inbox's answers as clients read them: every key is always there."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, RootModel, StrictBool

from unpause.api.time_parameters import Moment
from unpause.domain.grants import GrantMatch, GrantScope
from unpause.domain.inbox import RequirementStatus
from unpause.domain.runs import RunStatus

LONGEST_NAME = 255
LONGEST_NOTE = 200_000
MAX_DECISIONS = 100

Kind = Literal["confirmation", "user_input", "external_execution", "question"]
Verb = Literal["approve", "reject", "answer"]


class InboxForm(BaseModel):
    """What may be sent as ``values``."""

    model_config = ConfigDict(populate_by_name=True)

    json_schema: dict[str, Any] = Field(alias="schema", description="JSON schema of the values, an object")
    editable: list[str] = Field(description="Arguments that the agent chose and the decider may change")
    required: list[str] = Field(description="Values without which the request cannot be answered")


class InboxVote(BaseModel):
    """One of the confirmations that the request needs."""

    by: str
    at: str
    note: str | None


class InboxMessage(BaseModel):
    """A message of the run, cut where it is long."""

    role: str
    text: str
    at: str


class InboxDecision(BaseModel):
    """A decision: what, by whom, when, through which API."""

    decision: Verb
    by: str | None
    at: str
    note: str | None
    via: str = Field(description="`agno`, `codegen`, `unpause`, `grant`, or `expiry` for a time limit")


class EarlierDecision(BaseModel):
    """A decision on another call of the same tool."""

    requirement_id: str
    arguments: dict[str, Any]
    decision: Verb
    by: str | None
    at: str
    note: str | None
    via: str = Field(description="As in a decision: `grant` for one that was remembered")


class Rememberable(BaseModel):
    """How a decision may count for later calls as well, as the author of the tool allows it."""

    scopes: list[GrantScope]
    matches: list[GrantMatch]
    max_seconds: float | None


class InboxRequest(BaseModel):
    """One thing that a run waits for, as the caller sees it."""

    requirement_id: str
    run_id: str
    agent_id: str
    organization_id: int
    session_id: str
    tool_call_id: str
    tool_name: str
    tool_description: str | None
    kind: Kind
    arguments: dict[str, Any] = Field(description="The arguments of the call, as it would run")
    form: InboxForm | None
    reason: str | None = Field(description="Why the tool waits")
    explanation: str | None = Field(description="Why the call needs another answer, such as that it may have run")
    started_by: str | None
    created_at: str
    expires_at: str | None
    in_doubt: bool = Field(description="Whether the call may already have run")
    needs_approval: bool = Field(description="Whether only an administrator may decide")
    votes: list[InboxVote]
    quorum: int
    approvers: list[str]
    may_decide: bool = Field(description="Whether the caller may approve or answer")
    why_not: str | None
    messages: list[InboxMessage] = Field(description="The last messages that led to the call")
    remember: Rememberable | None = Field(description="What may be remembered of the decision")
    url: str = Field(description="The request in the console")
    status: RequirementStatus


class InboxRequestOutcome(InboxRequest):
    """A request, open or not."""

    decision: InboxDecision | None
    run_status: RunStatus


class InboxRequestDetail(InboxRequestOutcome):
    """A request, open or not, with what else helps to decide."""

    earlier: list[EarlierDecision]


class InboxPage(BaseModel):
    """Part of a list; ``next`` is the cursor of the next part, null at the end."""

    data: list[InboxRequest]
    next: str | None


class RememberRequest(BaseModel):
    """How a decision is to count for later calls as well; with the scope ``until`` up to that time."""

    model_config = ConfigDict(extra="forbid")

    scope: GrantScope
    match: GrantMatch = GrantMatch.ARGUMENTS
    until: Moment | None = None


class DecisionRequest(BaseModel):
    """A decision on a request.

    ``approve`` takes ``values`` for the form and ``arguments`` that replace editable ones; ``answer`` takes ``values``,
    the ``result`` of a call that is run elsewhere, or an ``answer`` in words to a question.
    """

    model_config = ConfigDict(extra="forbid")

    decision: Verb
    note: str | None = Field(default=None, max_length=LONGEST_NOTE)
    values: dict[str, Any] | None = None
    arguments: dict[str, Any] | None = None
    result: Any = Field(default=None, description="Text, or JSON that becomes text")
    answer: str | None = Field(default=None, max_length=LONGEST_NOTE)
    continue_run: StrictBool = Field(
        default=True, alias="continue", description="Whether the run goes on once nothing of it is open any more"
    )
    remember: RememberRequest | None = None
    acting_for: str | None = Field(
        default=None, max_length=LONGEST_NAME, description="Whom a caller without a user of its own acts for"
    )


class NamedDecisionRequest(DecisionRequest):
    """A decision on the request that it names."""

    requirement_id: str = Field(max_length=LONGEST_NAME)


class DecisionsRequest(BaseModel):
    """Decisions on several requests, each taken by itself."""

    model_config = ConfigDict(extra="forbid")

    decisions: Annotated[list[NamedDecisionRequest], Field(min_length=1, max_length=MAX_DECISIONS)]


class InboxRun(BaseModel):
    """The run of a request."""

    run_id: str
    status: RunStatus


class DecisionResponse(BaseModel):
    """A request as the decision left it, its run, and whether that went on."""

    requirement: InboxRequestOutcome
    run: InboxRun
    continued: bool


class DecisionRefusal(BaseModel):
    """Why a decision was not taken; ``decision`` is the one that was first, where that is the reason."""

    model_config = ConfigDict(extra="allow")

    detail: str
    error_code: str
    decision: InboxDecision | None


class OneDecisionResponse(BaseModel):
    """What became of one of several decisions: what it alone would have been answered, or why it was not taken."""

    requirement_id: str
    status_code: int
    requirement: InboxRequestOutcome | None
    run: InboxRun | None
    continued: bool
    error: DecisionRefusal | None


class DecisionsResponse(BaseModel):
    """What became of each decision, in their order."""

    data: list[OneDecisionResponse]


class AlreadyDecidedResponse(BaseModel):
    """Somebody was faster; ``decision`` is theirs, null where the run was cancelled."""

    detail: str
    error_code: str
    decision: InboxDecision | None


class RequirementAdded(InboxRequestOutcome):
    """A request has come."""

    event: Literal["requirement.added"]


class RequirementUpdated(InboxRequestOutcome):
    """Somebody has confirmed a request that needs more, such as other people or its result."""

    event: Literal["requirement.updated"]


class RequirementDecided(InboxRequestOutcome):
    """A request was decided."""

    event: Literal["requirement.decided"]


class RequirementExpired(InboxRequestOutcome):
    """A request has expired."""

    event: Literal["requirement.expired"]


class RequirementCancelled(InboxRequestOutcome):
    """The run of a request was cancelled."""

    event: Literal["requirement.cancelled"]


class InboxChanged(BaseModel):
    """Open requests were deleted with their sessions: read the list again. It has no id."""

    event: Literal["inbox.changed"]


class InboxEvent(
    RootModel[
        Annotated[
            RequirementAdded
            | RequirementUpdated
            | RequirementDecided
            | RequirementExpired
            | RequirementCancelled
            | InboxChanged,
            Field(discriminator="event"),
        ]
    ]
):
    """A change of the inbox: the request as it stands then, without messages; or that the list has to be read again."""


# What the routes name.
RESPONSES: tuple[type[BaseModel], ...] = (
    AlreadyDecidedResponse,
    DecisionResponse,
    DecisionsResponse,
    InboxEvent,
    InboxPage,
    InboxRequestDetail,
)
