"""Chooses the agent of a run that names none: by its repository, by the type of agent, else the default one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.errors import InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from unpause.agents.registry import AgentRegistry

# The two agent types of Codegen's API.
AGENT_TYPES = ("codegen", "claude_code")


class AgentRouter:
    """The routes in the settings, by repository and by agent type, checked against the agents served.

    Raises InvalidSetting for an entry that is not like ``12=ops`` or ``claude_code=ops``, for one that is named twice,
    and for an agent that is not served, once it is known which are.
    """

    def __init__(self, agents: AgentRegistry, repo_agents: Iterable[str], agent_types: Iterable[str]) -> None:
        self._agents = agents
        self._by_type = _read("agent_types", agent_types)
        if unknown := self._by_type.keys() - set(AGENT_TYPES):
            known = " and ".join(AGENT_TYPES)
            raise InvalidSetting(f"agent_types: {min(unknown)!r} is no agent type; there are {known}")
        self._by_repository: dict[int, str] = {}
        for name, agent_id in _read("repo_agents", repo_agents).items():
            if not (name.isascii() and name.isdecimal()):
                raise InvalidSetting(f"repo_agents: {name!r} is not the number of a repository")
            if int(name) in self._by_repository:
                raise InvalidSetting(f"repo_agents: repository {int(name)} is named twice")
            self._by_repository[int(name)] = agent_id
        agents.add_check(self._check)

    def choose_agent(self, repo_id: int | None, agent_type: str | None) -> str | None:
        """Return the id of the agent; None where no agent is served at all. Raises AgentsLoading."""
        if repo_id is not None and repo_id in self._by_repository:
            return self._by_repository[repo_id]
        if agent_type is not None and agent_type in self._by_type:
            return self._by_type[agent_type]
        return self._agents.default_agent

    def _check(self, served: Collection[str]) -> None:
        for setting, routes in (("agent_types", self._by_type), ("repo_agents", self._by_repository)):
            for agent_id in routes.values():
                if agent_id not in served:
                    there = ", ".join(served) or "none"
                    raise InvalidSetting(f"{setting}: agent {agent_id!r} is not served here; served: {there}")


def _read(setting: str, entries: Iterable[str]) -> dict[str, str]:
    read: dict[str, str] = {}
    for entry in entries:
        name, equals, agent_id = (part.strip() for part in entry.partition("="))
        if not (name and equals and agent_id):
            raise InvalidSetting(f"{setting}: {entry!r} is not like NAME=AGENT")
        if name in read:
            raise InvalidSetting(f"{setting}: {name!r} is named twice")
        read[name] = agent_id
    return read
