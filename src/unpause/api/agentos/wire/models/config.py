"""The server: its agents, models and configuration."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

D = TypeVar("D")


class ApiInfoResponse(BaseModel):
    """The server's name and version."""

    name: str
    version: str
    docs: str


class ModelResponse(BaseModel):
    """The model of an agent."""

    name: str
    model: str
    provider: str


class Model(BaseModel):
    """A model that agents use."""

    id: str
    provider: str


class AgentTool(BaseModel):
    """A tool of an agent, and what its calls wait for."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] = Field(description="The JSON schema of the arguments")
    requires_confirmation: bool | None = None
    requires_user_input: bool | None = None
    external_execution: bool | None = None
    approval_type: Literal["required", "audit"] | None = None


class AgentTools(BaseModel):
    """The tools of an agent."""

    tools: list[AgentTool]


class AgentSessions(BaseModel):
    """Where the agent's sessions are kept."""

    session_table: str


class AgentResponse(BaseModel):
    """An agent."""

    id: str
    name: str
    db_id: str
    model: ModelResponse
    tools: AgentTools
    sessions: AgentSessions
    is_component: bool


class AgentSummaryResponse(BaseModel):
    """An agent in the configuration."""

    id: str
    name: str
    db_id: str


class TeamResponse(BaseModel):
    """A team; there are none here."""

    id: str
    name: str


class TeamSummaryResponse(BaseModel):
    """A team in the configuration; there are none here."""

    id: str
    name: str


class WorkflowSummaryResponse(BaseModel):
    """A workflow; there are none here."""

    id: str
    name: str


class InterfaceResponse(BaseModel):
    """A further interface; there are none here."""

    type: str
    version: str
    route: str


class SessionDomainConfig(BaseModel):
    """How the sessions of a database are shown."""

    display_name: str


class DatabaseConfig(BaseModel, Generic[D]):
    """A database with its tables."""

    db_id: str
    domain_config: D
    tables: list[str]


class SessionConfig(BaseModel):
    """The databases with sessions."""

    dbs: list[DatabaseConfig[SessionDomainConfig]]


class DomainConfig(BaseModel):
    """The databases of something that is not kept here: always none."""

    dbs: list[dict[str, Any]]


class KnowledgeConfig(DomainConfig):
    """Knowledge, of which there is none here."""

    knowledge_instances: list[dict[str, Any]]


class ConfigResponse(BaseModel):
    """The configuration that clients read before they start."""

    os_id: str
    description: str
    available_models: list[str]
    os_database: str
    databases: list[str]
    session: SessionConfig
    metrics: DomainConfig
    memory: DomainConfig
    knowledge: KnowledgeConfig
    evals: DomainConfig
    traces: DomainConfig
    agents: list[AgentSummaryResponse]
    teams: list[TeamSummaryResponse]
    workflows: list[WorkflowSummaryResponse]
    interfaces: list[InterfaceResponse]


class HealthResponse(BaseModel):
    """The process and its background tasks are alive."""

    status: Literal["ok"]
    instantiated_at: datetime


class UnservedRuns(BaseModel):
    """The runs of an agent that no live process serves."""

    agent_id: str
    pending: int
    paused: int


class OtherSchemaResponse(BaseModel):
    """The schema of a database that another version has upgraded, or will."""

    revision: str
    known: str = Field(description="The newest revision that this version knows")
    detail: str


class ReadyResponse(BaseModel):
    """The server accepts requests."""

    status: Literal["ready"]
    unserved: list[UnservedRuns] | None = Field(default=None, description="Absent where every run can be executed")
    schema_: OtherSchemaResponse | None = Field(
        default=None, alias="schema", description="Absent where it is this version's own"
    )


class MissingPartResponse(BaseModel):
    """One thing that the server lacks."""

    part: Literal["background_task", "agents", "database", "schema", "worker", "clock"]
    detail: str
    agent_ids: list[str] | None = Field(default=None, description="The agents concerned; absent where it is all")


class NotReadyResponse(BaseModel):
    """The server does not accept requests now."""

    status: Literal["unavailable"]
    reason: str
    missing: list[MissingPartResponse] | None = Field(default=None, description="What `/ready` misses, worst first")
    unserved: list[UnservedRuns] | None = Field(default=None, description="Absent where every run can be executed")
    schema_: OtherSchemaResponse | None = Field(
        default=None, alias="schema", description="Absent where it is this version's own"
    )
