"""Drivers of agents that run in other processes: what the server knows of them, and how it reaches them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from unpause.agents.driver import ModelName
from unpause.errors import ModelNotAllowed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from unpause.agents.driver import ArgumentCheck, Journal, Segment, SegmentEnd, ToolDescription
    from unpause.agents.process.messages import AgentDescription


class AgentHost(Protocol):
    """Runs segments of agents somewhere else."""

    async def run_segment(self, agent_id: str, segment: Segment, journal: Journal) -> SegmentEnd:
        """Run a segment; raise AgentProcessDied where what ran it is gone."""
        ...

    def check_arguments(
        self, agent_id: str, tool_name: str, arguments: Mapping[str, Any], chosen: Collection[str]
    ) -> ArgumentCheck | None:
        """Have the agent's tool check arguments; called in a thread. Raises AgentUnavailable."""
        ...


class ProcessDriver:
    """One agent that its host runs. Implements ``agents.driver.AgentDriver``."""

    def __init__(self, description: AgentDescription, host: AgentHost) -> None:
        self._host = host
        self._description = description
        self.agent_id = description.agent_id
        self.agent_name = description.agent_name
        self.model_name = description.model_name
        self.model_provider = description.model_provider

    def list_tools(self) -> list[ToolDescription]:
        """Return what the agent can call."""
        return list(self._description.tools)

    def list_models(self) -> Mapping[str, ModelName]:
        """Return the models that clients may choose, by name, its own first."""
        return self._description.models

    def describe_model(self, choice: str | None) -> ModelName:
        """Return the model that a client's choice means, None being the agent's own; raise ModelNotAllowed."""
        if choice is None:
            return ModelName(self.model_name, self.model_provider)
        found = self._description.models.get(choice)
        if found is None:
            raise ModelNotAllowed(choice, list(self._description.models))
        return found

    def check_arguments(
        self, tool_name: str, arguments: Mapping[str, Any], chosen: Collection[str]
    ) -> ArgumentCheck | None:
        """Have the tool check those of the arguments that a human chose; raise AgentUnavailable where nobody can."""
        return self._host.check_arguments(self.agent_id, tool_name, arguments, chosen)

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Have the segment run; raise AgentProcessDied where the process that ran it is gone."""
        return await self._host.run_segment(self.agent_id, segment, journal)
