"""The JSON bodies of requests. The forms of the same routes have the same fields, with JSON as text inside."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from unpause.api.tool_answers import ToolExecutionInput


class Media(BaseModel):
    """A picture or a file."""

    content: str | None = Field(default=None, description="base64, or plain text for a `mime_type` of text")
    url: str | None = Field(default=None, description="A data URI")
    mime_type: str | None = None
    format: str | None = Field(default=None, description="The type as a file extension")
    filename: str | None = None


class CreateAgentRunRequest(BaseModel):
    """A run to create."""

    message: str = Field(description="The prompt")
    stream: bool | None = Field(
        default=False, description="Stream the run's events. The default is false for JSON, and true for a form"
    )
    stream_events: bool | None = Field(default=True, description="With false a stream has only the text and the end")
    background: bool | None = Field(default=False, description="Respond with 202 at once")
    session_id: str | None = Field(default=None, description="The session of the run; default: a new one")
    user_id: str | None = Field(default=None, description="The user; ignored where the token names one")
    session_state: dict[str, Any] | None = Field(default=None, description="The state that the session starts with")
    dependencies: dict[str, Any] | None = Field(default=None, description="Values for the agent's tools")
    metadata: dict[str, Any] | None = Field(default=None, description="Any JSON object, kept with the run")
    output_schema: dict[str, Any] | None = Field(default=None, description="The JSON schema of the result")
    use_json_schema: bool | None = Field(
        default=False, description="Whether the model gets the schema as response format"
    )
    images: list[Media] | None = Field(default=None, description="Pictures for the model")
    input_files: list[Media] | None = Field(default=None, description="Files for the model")


class ContinueAgentRunRequest(BaseModel):
    """The answers to what a paused run waits for."""

    tools: list[ToolExecutionInput] | None = Field(
        default=None,
        description="The run's `tools` with answers filled in, or only what identifies the call, and the answer. Empty "
        "where an administrator has decided",
    )
    session_id: str | None = Field(default=None, description="The session of the run; need not be sent")
    user_id: str | None = Field(default=None, description="The user; ignored where the token names one")
    pause_id: str | None = Field(
        default=None, description="Not in AgentOS: the pause that the answers are for; 409 where it is over"
    )
    stream: bool | None = Field(
        default=False, description="Stream the run's events. The default is false for JSON, and true for a form"
    )
    background: bool | None = Field(default=False, description="Respond with 202 at once")
