"""The agents served here, by id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.domain.nodes import ServedAgents
from unpause.domain.runs import SETUP_COMMANDS
from unpause.errors import AgentNotFound, InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unpause.agents.driver import AgentDriver
    from unpause.domain.runs import Run


class AgentRegistry:
    """A fixed set of agents. ``default_agent`` runs what names no agent; without one it is the first agent.

    ``setup_commands`` runs the runs of that source, and no others; it is not listed.
    """

    def __init__(
        self,
        drivers: Iterable[AgentDriver],
        default_agent: str | None = None,
        setup_commands: AgentDriver | None = None,
    ) -> None:
        self.setup_commands = setup_commands
        self._drivers: dict[str, AgentDriver] = {}
        for driver in drivers:
            if driver.agent_id in self._drivers:
                raise InvalidSetting(f"two agents are named {driver.agent_id!r}: an agent's name is its id")
            self._drivers[driver.agent_id] = driver
        if setup_commands is not None and setup_commands.agent_id in self._drivers:
            raise InvalidSetting(
                f"no agent can be named {setup_commands.agent_id!r}: that is the agent of setup commands"
            )
        if default_agent is not None and default_agent not in self._drivers:
            served = ", ".join(self._drivers) or "none"
            raise InvalidSetting(f"default_agent {default_agent!r} is not served here; served: {served}")
        self.default_agent = default_agent or next(iter(self._drivers), None)

    def list_agents(self) -> list[AgentDriver]:
        """Return all agents, in their order."""
        return list(self._drivers.values())

    @property
    def served(self) -> ServedAgents:
        """The agents whose runs can be executed here."""
        setup = None if self.setup_commands is None else self.setup_commands.agent_id
        return ServedAgents(frozenset(self._drivers), setup)

    def find_driver(self, run: Run) -> AgentDriver | None:
        """Return the driver that executes and continues the run, or None."""
        return self._route(run.agent_id, run.source_type)

    def get_driver(self, agent_id: str, source_type: str) -> AgentDriver:
        """Return the driver for a new run of this agent from this source; raise AgentNotFound without one."""
        driver = self._route(agent_id, source_type)
        if driver is None:
            raise AgentNotFound
        return driver

    def _route(self, agent_id: str, source_type: str) -> AgentDriver | None:
        """Tell runs that prepare a repository from all others by their source: here, and only here."""
        if source_type == SETUP_COMMANDS:
            return self.setup_commands
        return self._drivers.get(agent_id)

    def find_agent(self, agent_id: str) -> AgentDriver | None:
        """Return the agent with this id, or None."""
        if self.setup_commands is not None and agent_id == self.setup_commands.agent_id:
            return self.setup_commands
        return self._drivers.get(agent_id)

    def get_agent(self, agent_id: str) -> AgentDriver:
        """Return the agent; raise AgentNotFound where none has this id."""
        driver = self.find_agent(agent_id)
        if driver is None:
            raise AgentNotFound
        return driver
