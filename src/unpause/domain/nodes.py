"""The processes that execute runs, and the agents that each of them serves."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from enum import StrEnum

from unpause.domain.runs import SETUP_COMMANDS


@dataclass(frozen=True, slots=True)
class ServedAgents:
    """The agents whose runs a process executes; ``setup_agent`` is the agent of SETUP_COMMANDS runs."""

    agent_ids: frozenset[str]
    setup_agent: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """The agent ids of its runs."""
        return self.agent_ids if self.setup_agent is None else self.agent_ids | {self.setup_agent}

    def serves(self, agent_id: str, source_type: str) -> bool:
        """Whether a run of this agent, from this source, is executed here."""
        return agent_id == self.setup_agent if source_type == SETUP_COMMANDS else agent_id in self.agent_ids


@dataclass(frozen=True, slots=True)
class Node:
    """A process that shares its database with others: the agents that it serves, and how many runs it executes."""

    id: str
    name: str
    version: str
    agents: tuple[str, ...]
    running: int


@dataclass(frozen=True, slots=True)
class Unserved:
    """How many runs wait for an agent that no live process serves; the count stops at a thousand."""

    agent_id: str
    pending: int
    paused: int


class MissingPart(StrEnum):
    """What a process can lack to serve requests."""

    BACKGROUND = "background_task"
    AGENTS = "agents"
    DATABASE = "database"
    SCHEMA = "schema"
    WORKER = "worker"
    CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing that a process lacks, in words; ``agent_ids`` where it concerns some agents only."""

    part: MissingPart
    detail: str
    agent_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OtherSchema:
    """The revision of a database whose schema is not this version's own, but works with it; ``known`` is its own."""

    revision: str
    known: str
    detail: str


def node_name() -> str:
    """Return the name of this process in logs and among the nodes of a database."""
    return f"{platform.node()}:{os.getpid()}"
