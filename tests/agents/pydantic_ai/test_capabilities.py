"""What a segment adds to its agent is one capability, where none of the author's has to come in between."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.agent import WrapperAgent
from pydantic_ai.capabilities import AbstractCapability, Hooks

from tests.benchmarks.instant_agent import agent as instant_agent
from unpause.agents.pydantic_ai.capabilities import is_plain


class Own(AbstractCapability[Any]):
    """A capability of an author's."""


class OwnAgent(Agent[None, str]):
    """An agent that may do anything in a run."""


@pytest.mark.parametrize("agent", [Agent(), Agent("test", tools=[len], instructions="Be kind"), instant_agent])
def test_an_agent_with_the_frameworks_capabilities_alone_is_plain(agent: Agent[Any, Any]) -> None:
    assert is_plain(agent)


@pytest.mark.parametrize(
    "agent", [Agent(capabilities=[Hooks()]), Agent(capabilities=[Own()]), OwnAgent(), WrapperAgent(Agent())]
)
def test_an_agent_that_adds_something_to_its_runs_is_not(agent: Agent[Any, Any]) -> None:
    assert not is_plain(agent)
