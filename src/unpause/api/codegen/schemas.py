"""The shapes of Codegen's requests and answers (codegen.md section 3)."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ApiAgentRunSourceType(StrEnum):
    """Where a run came from."""

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


class CreateAgentRunInput(BaseModel):
    """What makes a run; keys not named here are ignored."""

    model_config = ConfigDict(extra="ignore")

    prompt: str
    images: list[str] | None = Field(default=None, description="Pictures as base64 data URIs")
    metadata: dict[str, Any] | None = Field(default=None, description="Any JSON, kept with the run")


class ResumeAgentRunInput(BaseModel):
    """What sends a paused run on; keys not named here are ignored."""

    model_config = ConfigDict(extra="ignore")

    agent_run_id: int
    prompt: str
    images: list[str] | None = Field(default=None, description="Pictures as base64 data URIs")


class GithubPullRequestResponse(BaseModel):
    """A pull request that a run opened."""

    id: int
    title: str | None = None
    url: str | None = None
    created_at: str
    head_branch_name: str | None = None


class AgentRunResponse(BaseModel):
    """A run, always with all its keys."""

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


class PermissionsErrorResponse(BaseModel):
    """Not a member of the organization."""

    message: str = "You do not have access to this organization."
    status_code: int = 403


class AgentRunNotFoundErrorResponse(BaseModel):
    """No such run in the organization."""

    message: str = "Agent run not found."
    status_code: int = 404


class ConflictErrorResponse(BaseModel):
    """The run is not paused."""

    message: str = "run is already running"
    status_code: int = 409
