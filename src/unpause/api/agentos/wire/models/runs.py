"""Runs and their messages."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from unpause.api.agentos.wire.models.base import nullable
from unpause.api.agentos.wire.models.tools import RunRequirement, ToolExecution
from unpause.domain.runs import RunStatus

Content = str | dict[str, Any]


class RunMetrics(BaseModel):
    """What a run has used. Counts of zero are absent; so is all of it while the run is at work."""

    model_config = ConfigDict(extra="allow")

    duration: float | None = Field(default=None, description="Seconds from the request to the pause or end")
    requests: int | None = Field(default=None, description="Requests to the model")
    tool_calls: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None


class FunctionCall(BaseModel):
    """A function with its arguments."""

    name: str
    arguments: str = Field(description="A JSON object", json_schema_extra={"contentMediaType": "application/json"})


class MessageToolCall(BaseModel):
    """A tool call in a message of the model."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class Message(BaseModel):
    """A message between the user, the model and its tools."""

    id: str
    role: str = Field(description="`user`, `assistant`, `tool` or `system`")
    content: str | None = None
    from_history: bool
    stop_after_tool_call: bool
    tool_call_id: str | None = None
    tool_name: str | None = None
    tool_args: dict[str, Any] | None = None
    tool_call_error: bool | None = None
    tool_calls: list[MessageToolCall] | None = None
    created_at: int = Field(description="Seconds since 1970")


class RunInput(BaseModel):
    """The message that the run was created with."""

    input_content: str


class RunOutput(BaseModel):
    """A run: its status, what it waits for while it is ``PAUSED``, and its result. Keys without a value are absent."""

    run_id: str
    agent_id: str
    agent_name: str
    session_id: str
    user_id: str | None = None
    content: Content | None = Field(default=None, description="The result: text, or an object (see `content_type`)")
    content_type: str = Field(description="`str` for text")
    model: str | None = None
    model_provider: str | None = None
    session_state: dict[str, Any]
    created_at: int = Field(description="Seconds since 1970")
    status: RunStatus
    metrics: RunMetrics
    events: list[dict[str, Any]] | None = Field(default=None, description="Always empty: follow the run instead")
    messages: list[Message]
    metadata: dict[str, Any] | None = None
    tools: list[ToolExecution]
    requirements: list[RunRequirement] | None = None
    pause_id: str | None = Field(default=None, description="Not in AgentOS: names the pause, while there is one")
    input: RunInput
    traceback: str | None = Field(default=None, description="Not in AgentOS: of a failed run, for administrators")


class RunAcceptedResponse(BaseModel):
    """A run that goes on in the background: the ids to poll for."""

    run_id: str
    session_id: str
    status: Literal["PENDING"]


class EmptyResponse(BaseModel):
    """An empty object: the request was accepted."""

    model_config = ConfigDict(extra="forbid")


class InputMedia(BaseModel):
    """Media of a run; always empty."""

    images: list[dict[str, Any]]
    videos: list[dict[str, Any]]
    audios: list[dict[str, Any]]
    files: list[dict[str, Any]]


class RunSchema(BaseModel):
    """A run in lists and sessions. Of a session's list keys without a value are absent, elsewhere they are null."""

    run_id: str
    parent_run_id: str = Field(description="Always empty")
    agent_id: str
    user_id: str | None = nullable()
    status: RunStatus
    run_input: str
    content: Content | None = nullable("The result: text, or an object")
    run_response_format: Literal["text", "json"]
    reasoning_content: str
    reasoning_steps: list[dict[str, Any]]
    metrics: RunMetrics
    messages: list[Message]
    tools: list[ToolExecution]
    events: list[dict[str, Any]] | None = nullable()
    created_at: datetime
    references: list[dict[str, Any]]
    citations: dict[str, Any] | None = nullable()
    reasoning_messages: list[dict[str, Any]]
    session_state: dict[str, Any]
    images: list[dict[str, Any]]
    videos: list[dict[str, Any]]
    audio: list[dict[str, Any]]
    files: list[dict[str, Any]]
    response_audio: dict[str, Any] | None = nullable()
    input_media: InputMedia
    traceback: str | None = Field(default=None, description="Not in AgentOS: of a failed run, for administrators")


class SessionRunPreviewSchema(BaseModel):
    """A run without its calls and messages, its texts cut."""

    run_id: str
    parent_run_id: str = Field(description="Always empty")
    agent_id: str
    user_id: str | None = None
    status: RunStatus
    run_input: str
    content_preview: str | None = None
    created_at: datetime
