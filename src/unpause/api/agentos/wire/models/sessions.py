"""Sessions."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from unpause.api.agentos.wire.models.base import nullable
from unpause.api.agentos.wire.models.runs import Message


class SessionSchema(BaseModel):
    """A session in a list. Keys without a value are absent."""

    session_id: str
    session_name: str
    session_state: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    session_type: Literal["agent"]
    user_id: str | None = None
    agent_id: str | None = None
    metadata: dict[str, Any] | None = None


class SessionModel(BaseModel):
    """The model of a session's agent."""

    id: str
    name: str
    provider: str


class SessionAgentData(BaseModel):
    """The agent of a session."""

    name: str
    agent_id: str
    model: SessionModel


class AgentSessionDetailSchema(BaseModel):
    """A session with the chat of its last runs."""

    user_id: str | None = None
    agent_session_id: str
    session_id: str
    session_name: str
    session_summary: dict[str, Any] | None = nullable()
    session_state: dict[str, Any]
    agent_id: str | None = None
    total_tokens: int | None = nullable("Never counted here")
    agent_data: SessionAgentData | None = nullable()
    metrics: dict[str, Any] = Field(description="Always empty")
    metadata: dict[str, Any] | None = nullable()
    chat_history: list[Message]
    created_at: datetime
    updated_at: datetime
