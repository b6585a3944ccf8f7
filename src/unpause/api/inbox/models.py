"""The inbox's answers as clients read them: every key is always there."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from unpause.domain.inbox import RequirementStatus
from unpause.domain.runs import RunStatus

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
    via: str = Field(description="`agno`, `codegen`, `unpause`, or `expiry` for a time limit")


class EarlierDecision(BaseModel):
    """A decision on another call of the same tool."""

    requirement_id: str
    arguments: dict[str, Any]
    decision: Verb
    by: str | None
    at: str
    note: str | None


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
    remember: dict[str, Any] | None
    url: str = Field(description="The request in the console")
    status: RequirementStatus


class InboxRequestDetail(InboxRequest):
    """A request, open or not, with what else helps to decide."""

    decision: InboxDecision | None
    run_status: RunStatus
    earlier: list[EarlierDecision]


class InboxPage(BaseModel):
    """Part of a list; ``next`` is the cursor of the next part, null at the end."""

    data: list[InboxRequest]
    next: str | None
