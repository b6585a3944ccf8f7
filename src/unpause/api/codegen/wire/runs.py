"""Codegen's requests and responses about runs, and its error responses."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticKnownError

from unpause.api.answers import Responses, refusal
from unpause.api.codegen.wire.webhooks import WebhookOverride
from unpause.api.documented_headers import RATE_LIMIT, RETRY_AFTER
from unpause.api.error_texts import ALREADY_RUNNING, RUN_LIMIT
from unpause.api.tool_answers import ToolExecutions

# The settings allow fewer; this keeps validation from examining a hundred thousand items.
MAX_ITEMS: Final = 100
LONGEST_NAME: Final = 1000


def _refuse_flag(value: object) -> object:
    """Refuse `true`, which pydantic takes for the number 1: another run than anybody meant."""
    if isinstance(value, bool):
        raise PydanticKnownError("int_type")
    return value


# As lenient as upstream otherwise: "1" and 1.0 are numbers.
Number: TypeAlias = Annotated[int, BeforeValidator(_refuse_flag)]


class ApiAgentRunSourceType(StrEnum):
    """The source of a run."""

    LOCAL = "LOCAL"
    SLACK = "SLACK"
    GITHUB = "GITHUB"
    GITHUB_CHECK_SUITE = "GITHUB_CHECK_SUITE"
    GITHUB_PR_REVIEW = "GITHUB_PR_REVIEW"
    LINEAR = "LINEAR"
    API = "API"
    CHAT = "CHAT"
    JIRA = "JIRA"
    CLICKUP = "CLICKUP"
    MONDAY = "MONDAY"
    SETUP_COMMANDS = "SETUP_COMMANDS"


class AgentRunStatus(StrEnum):
    """The status of a run."""

    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    COMPLETE = "COMPLETE"
    ERROR = "ERROR"
    CANCELLED = "CANCELLED"
    TIMEOUT = "TIMEOUT"
    MAX_ITERATIONS_REACHED = "MAX_ITERATIONS_REACHED"
    OUT_OF_TOKENS = "OUT_OF_TOKENS"


class CreateAgentRunInput(BaseModel):
    """A run to create; other keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    prompt: str
    images: list[str] | None = Field(default=None, max_length=MAX_ITEMS, description="Pictures as base64 data URIs")
    metadata: dict[str, Any] | None = Field(default=None, description="Any JSON, kept with the run")
    repo_id: Number | None = Field(
        default=None, description="The run's repository: the settings may choose the agent by it"
    )
    model: str | None = Field(
        default=None,
        max_length=LONGEST_NAME,
        description="One of the organization's models; default: the agent's own",
    )
    agent_type: Literal["codegen", "claude_code"] | None = Field(
        default=None, description="Type of agent: the settings may choose the agent by it"
    )
    webhooks: list[WebhookOverride] | None = Field(
        default=None, max_length=MAX_ITEMS, description="Webhooks of this run, instead of the organization's"
    )


class ResumeAgentRunInput(BaseModel):
    """How to continue a paused run; other keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    agent_run_id: Number
    prompt: str
    images: list[str] | None = Field(default=None, max_length=MAX_ITEMS, description="Pictures as base64 data URIs")
    model: str | None = Field(
        default=None, max_length=LONGEST_NAME, description="Model for the rest of the run; default: the present one"
    )
    webhooks: list[WebhookOverride] | None = Field(
        default=None, max_length=MAX_ITEMS, description="Webhooks of this run from now on, instead of the present ones"
    )
    tools: ToolExecutions | None = Field(
        default=None,
        description="An extension: decisions on single calls, as in AgentOS's continue. Unless it is empty, the prompt "
        "decides the rest",
    )


class PauseAgentRunInput(BaseModel):
    """The run to pause; other keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    agent_run_id: Number


class StopAgentRunInput(BaseModel):
    """The run to stop. There is no board of cards here: the order keys are ignored."""

    model_config = ConfigDict(extra="ignore")

    agent_run_id: Number
    before_card_order_id: str | None = Field(default=None, max_length=LONGEST_NAME)
    after_card_order_id: str | None = Field(default=None, max_length=LONGEST_NAME)


class GithubPullRequestResponse(BaseModel):
    """A pull request that a run opened."""

    id: int
    title: str | None = None
    url: str | None = None
    created_at: str
    head_branch_name: str | None = None


class AgentRunResponse(BaseModel):
    """A run, always with all its keys, but the last."""

    id: int
    organization_id: int
    status: str | None = None
    created_at: str | None = None
    web_url: str | None = None
    result: str | None = None
    summary: str | None = None
    source_type: ApiAgentRunSourceType | None = None
    github_pull_requests: list[GithubPullRequestResponse] | None = None
    metadata: dict[str, Any] | None = None
    traceback: str | None = Field(default=None, description="Not in Codegen: of a failed run, for administrators")


class StopAgentRunResponse(BaseModel):
    """The result, in words."""

    message: str


class AgentRunLogResponse(BaseModel):
    """One entry of a run's log, always with all its keys."""

    agent_run_id: int
    created_at: str | None = None
    tool_name: str | None = None
    message_type: str | None = None
    thought: str | None = None
    observation: dict[str, Any] | str | None = None
    tool_input: dict[str, Any] | None = None
    tool_output: dict[str, Any] | None = None


class AgentRunWithLogsResponse(BaseModel):
    """A run with a part of its log, always with all keys."""

    id: int
    organization_id: int
    status: str | None = None
    created_at: str | None = None
    web_url: str | None = None
    result: str | None = None
    metadata: dict[str, Any] | None = None
    logs: list[AgentRunLogResponse]
    total_logs: int | None = None
    page: int | None = None
    size: int | None = None
    pages: int | None = None


class InvalidRequestErrorResponse(BaseModel):
    """A value is invalid; the message says which and why."""

    message: str = "prompt is longer than 200000 characters"
    status_code: int = 400


class UnauthenticatedErrorResponse(BaseModel):
    """The request has no valid token."""

    message: str = "Invalid or missing API token"
    status_code: int = 401


class AgentRunLimitReachedErrorResponse(BaseModel):
    """The organization has created as many runs as it may."""

    message: str = RUN_LIMIT
    status_code: int = 402


class PermissionsErrorResponse(BaseModel):
    """Not a member of the organization, or not allowed to decide."""

    message: str = "You do not have access to this organization."
    status_code: int = 403


class AgentRunNotFoundErrorResponse(BaseModel):
    """No such run in the organization."""

    message: str = "Agent run not found."
    status_code: int = 404


class NoReposFoundInOrgErrorResponse(BaseModel):
    """No agent is served; ``detail`` says what is missing."""

    message: str = "No repos found in the organization. Please add some repos and try again."
    status_code: int = 404


class ConflictErrorResponse(BaseModel):
    """The run's status does not allow the request."""

    message: str = ALREADY_RUNNING
    status_code: int = 409


class APIRateLimitErrorResponse(BaseModel):
    """Too many requests with this token in a window of time."""

    message: str = "Rate limit exceeded. Please try again later."
    status_code: int = 429


class UnavailableErrorResponse(BaseModel):
    """The database is unavailable, or the server is shutting down."""

    message: str = "The database is unavailable"
    status_code: int = 503


EVERYWHERE: Responses = {
    200: {"headers": RATE_LIMIT},
    **refusal(UnauthenticatedErrorResponse, "Unauthorized", 401),
    **refusal(APIRateLimitErrorResponse, "Too Many Requests", 429, {**RETRY_AFTER, **RATE_LIMIT}),
    **refusal(UnavailableErrorResponse, "Service Unavailable", 503, RETRY_AFTER),
}
OF_MEMBERS: Responses = {**EVERYWHERE, **refusal(PermissionsErrorResponse, "Forbidden", 403)}
OF_RUNS: Responses = {**OF_MEMBERS, **refusal(AgentRunNotFoundErrorResponse, "Not Found", 404)}
REFUSED = refusal(InvalidRequestErrorResponse, "Bad Request", 400)
CONFLICT = refusal(ConflictErrorResponse, "Conflict", 409)

# The schemas that the document needs besides those that routes return.
ERRORS: tuple[type[BaseModel], ...] = (
    AgentRunNotFoundErrorResponse,
    APIRateLimitErrorResponse,
    ConflictErrorResponse,
    InvalidRequestErrorResponse,
    PermissionsErrorResponse,
    UnauthenticatedErrorResponse,
    UnavailableErrorResponse,
)
