"""The agents served here, by id: known once they are loaded, and perhaps others when they are loaded anew."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from unpause.domain.nodes import ServedAgents
from unpause.domain.runs import SETUP_COMMANDS
from unpause.errors import AgentNotFound, AgentsLoading, InvalidSetting
from unpause.telemetry.metrics import show_agents

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from unpause.agents.driver import AgentDriver
    from unpause.domain.runs import Run

# How long a request waits for agents to be loaded. They usually are within two seconds after a start.
_PATIENCE_SECONDS: Final = 5.0


class AgentRegistry:
    """A set of agents, which ``serve`` fills and replaces. Until then every look-up raises AgentsLoading.

    ``default_agent`` runs what names no agent; without one it is the first agent. ``setup_commands`` runs the runs of
    that source, and no others; it is not listed.
    """

    def __init__(self, default_agent: str | None = None) -> None:
        self._configured_default = default_agent
        self._drivers: dict[str, AgentDriver] | None = None
        self._setup_commands: AgentDriver | None = None
        self._served = ServedAgents(frozenset())
        self._checks: list[Callable[[Collection[str]], None]] = []
        self._listeners: list[Callable[[], None]] = []
        self._refusal: InvalidSetting | None = None
        self._is_known = asyncio.Event()

    # -- which agents there are

    def serve(self, drivers: Iterable[AgentDriver], setup_commands: AgentDriver | None = None) -> None:
        """Serve these agents, and no others, from now on; raise InvalidSetting, having changed nothing."""
        by_id: dict[str, AgentDriver] = {}
        for driver in drivers:
            if driver.agent_id in by_id:
                raise InvalidSetting(f"two agents are named {driver.agent_id!r}: an agent's name is its id")
            by_id[driver.agent_id] = driver
        if setup_commands is not None and setup_commands.agent_id in by_id:
            raise InvalidSetting(
                f"no agent can be named {setup_commands.agent_id!r}: that is the agent of setup commands"
            )
        default = self._configured_default
        if default is not None and default not in by_id:
            served = ", ".join(by_id) or "none"
            raise InvalidSetting(f"default_agent {default!r} is not served here; served: {served}")
        for check in self._checks:
            check(by_id)
        self._drivers, self._setup_commands = by_id, setup_commands
        self._served = ServedAgents(frozenset(by_id), None if setup_commands is None else setup_commands.agent_id)
        show_agents(self._served.names)
        self._is_known.set()
        for listener in self._listeners:
            listener()

    def refuse(self, error: InvalidSetting) -> None:
        """Have ``wait_until_loaded`` raise this: the agents cannot be served."""
        self._refusal = error
        self._is_known.set()

    def add_check(self, check: Callable[[Collection[str]], None]) -> None:
        """Have the ids of all agents, now and later, checked by what raises InvalidSetting for impossible ones."""
        if self._drivers is not None:
            check(self._drivers)
        self._checks.append(check)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` in the event loop whenever other agents are served than before."""
        self._listeners.append(listener)

    @property
    def is_loaded(self) -> bool:
        """Whether the agents are known."""
        return self._drivers is not None

    async def wait_until_loaded(self) -> None:
        """Return once the agents are known; raise InvalidSetting where they cannot be served."""
        await self._is_known.wait()
        if self._refusal is not None:
            raise self._refusal

    async def expect(self) -> None:
        """Wait a moment for the agents of a server that has just started; raise AgentsLoading where it takes longer."""
        if self._drivers is None:
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await self.wait_until_loaded()
            except (TimeoutError, InvalidSetting):
                raise AgentsLoading from None

    # -- looking them up

    @property
    def served(self) -> ServedAgents:
        """The agents whose runs can be executed here; none before they are loaded."""
        return self._served

    @property
    def default_agent(self) -> str | None:
        """The agent that runs what names none; None where no agent is served."""
        return self._configured_default or next(iter(self._known()), None)

    @property
    def setup_commands(self) -> AgentDriver | None:
        """The agent that prepares repositories."""
        self._known()
        return self._setup_commands

    def list_agents(self) -> list[AgentDriver]:
        """Return all agents, in their order."""
        return list(self._known().values())

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
        return self._known().get(agent_id)

    def find_agent(self, agent_id: str) -> AgentDriver | None:
        """Return the agent with this id, or None."""
        setup = self.setup_commands
        if setup is not None and agent_id == setup.agent_id:
            return setup
        return self._known().get(agent_id)

    def get_agent(self, agent_id: str) -> AgentDriver:
        """Return the agent; raise AgentNotFound where none has this id."""
        driver = self.find_agent(agent_id)
        if driver is None:
            raise AgentNotFound
        return driver

    def _known(self) -> dict[str, AgentDriver]:
        if self._drivers is None:
            raise AgentsLoading
        return self._drivers
