"""The events of a run: the data of a stream's items. ``event`` names the kind."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, RootModel

from unpause.api.agentos.wire.models.runs import Content, RunMetrics
from unpause.api.agentos.wire.models.tools import RunRequirement, ToolExecution


class _AgentEvent(BaseModel):
    created_at: int = Field(description="Seconds since 1970")
    agent_id: str
    agent_name: str
    run_id: str
    session_id: str
    event_index: int = Field(description="Number of the event in its run, from 0: the `id` of the stream less 1")


class _ModelEvent(_AgentEvent):
    model: str | None = None
    model_provider: str | None = None


class RunStartedEvent(_ModelEvent):
    """The run was created."""

    event: Literal["RunStarted"]


class RunContinuedEvent(_AgentEvent):
    """The paused run was continued."""

    event: Literal["RunContinued"]


class ModelRequestStartedEvent(_ModelEvent):
    """The model begins to answer."""

    event: Literal["ModelRequestStarted"]


class ModelRequestCompletedEvent(_ModelEvent):
    """The model has answered."""

    event: Literal["ModelRequestCompleted"]
    input_tokens: int
    output_tokens: int
    total_tokens: int
    reasoning_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    time_to_first_token: float | None = None


class RunContentEvent(_AgentEvent):
    """A piece of the model's text, or of its reasoning."""

    event: Literal["RunContent"]
    content: str = Field(description="To be appended to the text so far")
    content_type: str
    reasoning_content: str
    workflow_agent: bool


class RunContentCompletedEvent(_AgentEvent):
    """The model's text is complete."""

    event: Literal["RunContentCompleted"]


class ToolCallStartedEvent(_AgentEvent):
    """A tool call starts."""

    event: Literal["ToolCallStarted"]
    tool: ToolExecution


class ToolCallCompletedEvent(_AgentEvent):
    """A tool call has ended."""

    event: Literal["ToolCallCompleted"]
    tool: ToolExecution
    content: str


class ToolCallErrorEvent(_AgentEvent):
    """A tool call has failed; the model is told."""

    event: Literal["ToolCallError"]
    tool: ToolExecution
    error: str | None = None


class RunPausedEvent(_AgentEvent):
    """The run waits for people: continue it with the answers to its open requirements. Ends the stream."""

    event: Literal["RunPaused"]
    content: str
    tools: list[ToolExecution]
    requirements: list[RunRequirement]
    pause_id: str


class RunCompletedEvent(_AgentEvent):
    """The run has ended with a result. Ends the stream."""

    event: Literal["RunCompleted"]
    content: Content | None = Field(default=None, description="The whole result: text, or an object")
    content_type: str
    session_state: dict[str, Any]
    metrics: RunMetrics


class RunErrorEvent(_AgentEvent):
    """The run has failed. Ends the stream."""

    event: Literal["RunError"]
    content: str
    error_type: str


class RunCancelledEvent(_AgentEvent):
    """The run was cancelled. Ends the stream."""

    event: Literal["RunCancelled"]
    reason: str


class PauseReminderEvent(_AgentEvent):
    """The paused run still waits; its answers are due. Not in AgentOS."""

    event: Literal["PauseReminder"]
    pause_id: str
    expires_at: datetime | None = None
    tool_call_ids: list[str]


RunEvent = (
    RunStartedEvent
    | RunContinuedEvent
    | ModelRequestStartedEvent
    | ModelRequestCompletedEvent
    | RunContentEvent
    | RunContentCompletedEvent
    | ToolCallStartedEvent
    | ToolCallCompletedEvent
    | ToolCallErrorEvent
    | RunPausedEvent
    | RunCompletedEvent
    | RunErrorEvent
    | RunCancelledEvent
    | PauseReminderEvent
)


class RunOutputEvent(RootModel[Annotated[RunEvent, Field(discriminator="event")]]):
    """An event of a run."""


class _ResumeFrame(BaseModel):
    run_id: str
    status: str
    message: str


class ReplayFrame(_ResumeFrame):
    """The events of a run that is paused or has ended follow."""

    event: Literal["replay"]
    total_events: int
    total_buffered: int
    last_event_index_requested: int


class CatchUpFrame(_ResumeFrame):
    """The events that the client has missed follow."""

    event: Literal["catch_up"]
    missed_events: int
    current_event_count: int


class SubscribedFrame(_ResumeFrame):
    """Live events follow."""

    event: Literal["subscribed"]
    current_event_count: int


class ResumedRunEvent(
    RootModel[Annotated[RunEvent | ReplayFrame | CatchUpFrame | SubscribedFrame, Field(discriminator="event")]]
):
    """An event of a run, or a frame that announces the ones after it."""
