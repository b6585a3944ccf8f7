"""Tool executions and requirements."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from unpause.api.agentos.wire.models.base import nullable

FieldType = Literal["str", "int", "float", "bool", "list", "dict"]


class UserInputField(BaseModel):
    """A field of a form that the user fills in: an argument of the call."""

    name: str
    field_type: FieldType
    description: str | None
    value: Any = Field(description="The value so far; null for a field that is still empty")
    required: bool | None = Field(default=None, description="Not in AgentOS")
    json_schema: dict[str, Any] | None = Field(
        default=None, alias="schema", description="Not in AgentOS: the JSON schema of the value"
    )


class EditableField(BaseModel):
    """An argument of the call that whoever decides may change. Not in AgentOS."""

    name: str
    field_type: FieldType | None = None
    description: str | None = nullable()
    value: Any = Field(description="The value that the model chose")
    required: bool | None = None
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema", description="The JSON schema of the value")


class ToolExecutionMetrics(BaseModel):
    """When a tool call started and ended, in seconds since 1970, and how long it took."""

    start_time: float
    end_time: float
    duration: float


class ToolExecution(BaseModel):
    """A tool call of the run, and what it waits for: at most one of the three ``requires…`` and ``external…`` flags."""

    tool_call_id: str
    tool_name: str
    tool_args: dict[str, Any]
    tool_call_error: bool | None = Field(description="Whether the call failed; null before it has ended")
    result: str | None = Field(description="What the model reads as the result")
    metrics: ToolExecutionMetrics | None
    child_run_id: str | None
    stop_after_tool_call: bool
    created_at: int = Field(description="Seconds since 1970")
    requires_confirmation: bool | None = Field(description="True while the call waits for a confirmation")
    confirmed: bool | None
    confirmation_note: str | None
    requires_user_input: bool | None = Field(description="True while the call waits for values")
    user_input_schema: list[UserInputField] | None
    user_feedback_schema: list[dict[str, Any]] | None
    answered: bool | None
    external_execution_required: bool | None = Field(description="True while the call waits for its result")
    external_execution_silent: bool | None
    approval_type: Literal["required", "audit"] | None
    approval_id: str | None
    editable: list[EditableField] | None = Field(default=None, description="Not in AgentOS")


class RunRequirement(BaseModel):
    """Something that the run waits for, or waited for earlier."""

    id: str
    created_at: datetime
    tool_execution: ToolExecution
    confirmation: bool | None = None
    confirmation_note: str | None = None
    external_execution_result: str | None = None
    user_input_schema: list[UserInputField] | None = None
    in_doubt: bool | None = Field(
        default=None, description="Not in AgentOS: the call started before a crash, and nobody knows whether it ended"
    )
    expires_at: datetime | None = Field(default=None, description="Not in AgentOS")
    message: str | None = Field(default=None, description="Not in AgentOS: why the call waits, or waits again")
    metadata: dict[str, Any] | None = Field(default=None, description="Not in AgentOS: the tool's own metadata")
    sent_args: dict[str, Any] | None = Field(
        default=None, description="Not in AgentOS: the model's arguments, where the tool's validation changed them"
    )
    quorum: int | None = Field(default=None, description="Not in AgentOS: how many people have to confirm the call")
    votes: list[str] | None = Field(default=None, description="Not in AgentOS: who has confirmed it")
    editable: list[EditableField] | None = Field(default=None, description="Not in AgentOS")
