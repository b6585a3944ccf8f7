"""Tools that an agent's capability puts beside the others, around all of them: each call runs once, as any other."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, RunContext, Tool
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import ApprovalRequired
from pydantic_ai.messages import ModelMessage, ModelResponse
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.toolsets import AbstractToolset, CombinedToolset, FunctionToolset

from tests.agents.pydantic_ai.driving import DrivenServer, driving, open_tools, said_by_tools, yes
from tests.support.agents import Call, ScriptedModel
from tests.support.mortal_journal import MortalJournal, run_to_the_end, setup_run
from tests.support.serving import options_for
from unpause.agents.driver import Completed
from unpause.agents.pydantic_ai.driver import PydanticAIDriver
from unpause.settings import Settings

REMOVE = Call("remove", {}, "c2")


class Adding(AbstractCapability[Any]):
    """Adds tools around those of the agent."""

    def __init__(self, *tools: Tool[Any]) -> None:
        self._tools = tools

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        """Add them."""
        return CombinedToolset([toolset, FunctionToolset([*self._tools])])


class Tools:
    """An agent with the tool ``remove``, which waits for people, and tools that a capability adds."""

    def __init__(self) -> None:
        self.did: list[str] = []

    async def note(self, ctx: RunContext[None]) -> str:
        """Note something."""
        self.did.append(f"note {ctx.tool_call_approved}")
        return f"noted {len(self.did)}"

    async def ask(self, ctx: RunContext[None]) -> str:
        """Do something once it is approved."""
        if not ctx.tool_call_approved:
            raise ApprovalRequired
        self.did.append("ask")
        return "asked"

    async def fail(self) -> str:
        """Fail."""
        self.did.append("fail")
        raise OSError

    def remove(self) -> str:
        """Remove something."""
        self.did.append("remove")
        return "removed"

    def agent(self, model: FunctionModel) -> Agent[None, str]:
        """Return the agent."""
        added = [Tool(self.note), Tool(self.ask), Tool(self.fail), Tool(self.note, name="sign", requires_approval=True)]
        tools = [Tool(self.remove, requires_approval=True)]
        return Agent(model, name="agent", tools=tools, capabilities=[Adding(*added)])


@asynccontextmanager
async def serving_anew(folder: Path, tools: Tools, script: ScriptedModel) -> AsyncIterator[DrivenServer]:
    """Serve the agent in a process that knows nothing of the one before."""
    async with driving(folder, tools.agent(script.model)) as server:
        yield server


@pytest.mark.parametrize(
    ("name", "did", "said"),
    [
        ("note", ["note False", "remove"], "noted 1"),
        ("fail", ["fail", "remove"], "OSError"),
    ],
)
async def test_an_added_tool_that_ran_beside_one_that_waits_does_not_run_again(
    tmp_path: Path, name: str, did: list[str], said: str
) -> None:
    tools, script = Tools(), ScriptedModel([Call(name, {}, "c1"), REMOVE])
    async with serving_anew(tmp_path, tools, script) as server:
        run = await server.run()
        assert (run["status"], tools.did) == ("PAUSED", did[:1])
    async with serving_anew(tmp_path, tools, script) as server:
        done = await server.confirm(run)
    assert (done["status"], tools.did) == ("COMPLETED", did)
    assert dict(said_by_tools(done)) == {name: said, "remove": "removed"}


@pytest.mark.parametrize(("name", "did"), [("ask", ["ask"]), ("sign", ["note True"])])
async def test_an_added_tool_that_waits_runs_once_it_is_approved(tmp_path: Path, name: str, did: list[str]) -> None:
    tools, script = Tools(), ScriptedModel([Call(name, {}, "c1")])
    async with serving_anew(tmp_path, tools, script) as server:
        run = await server.run()
        (waiting,) = open_tools(run)
        assert (run["status"], waiting["tool_name"], tools.did) == ("PAUSED", name, [])
    async with serving_anew(tmp_path, tools, script) as server:
        done = await server.answer_with(run, yes(waiting))
    assert (done["status"], tools.did) == ("COMPLETED", did)


async def note_and_remove(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[Any]:
    """Ask for both at once, whenever that has not been asked yet."""
    if any(isinstance(message, ModelResponse) for message in messages):
        yield "done"
    else:
        yield {0: Call("note", {}, "c1").delta(), 1: REMOVE.delta()}


async def run_with_a_death(dies_at: int, *, after: bool) -> tuple[MortalJournal, Tools]:
    """Let a run with added tools come to its end through one death; return its journal and what was done."""
    tools = Tools()
    journal = MortalJournal(setup_run("go", 1), dies_at, after=after)
    driver = PydanticAIDriver(
        tools.agent(FunctionModel(stream_function=note_and_remove)), options_for(Settings(dev=True))
    )
    assert isinstance(await run_to_the_end(driver, journal, {}), Completed)
    return journal, tools


async def test_whenever_the_process_dies_an_added_tool_does_not_run_twice_unless_a_human_says_so() -> None:
    journal, tools = await run_with_a_death(0, after=False)
    assert Counter(tools.did) == {"note False": 1, "remove": 1}
    # Not after the last commit: then the run has ended.
    for dies_at, after in [(at, after) for at in range(1, journal.commits + 1) for after in (False, True)][:-1]:
        died, tools = await run_with_a_death(dies_at, after=after)
        doubts = Counter(call.tool_name for call in died.doubts)
        noted = sum(did.startswith("note") for did in tools.did)
        assert 1 <= noted <= 1 + doubts["note"], (dies_at, after)
        assert 1 <= tools.did.count("remove") <= 1 + doubts["remove"], (dies_at, after)
