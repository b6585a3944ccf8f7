"""A run goes on where it was: with calls that are run elsewhere, and with an agent whose tools have changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic_ai import Agent, ModelRetry, Tool
from pydantic_ai.messages import ToolReturnPart
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import ExternalToolset

from tests.agents.pydantic_ai.driving import driving, said_by_tools
from tests.support.agents import Call, ScriptedModel, parts_of
from unpause import policy


def external(name: str) -> ExternalToolset[None]:
    """Return a toolset with one tool that is run elsewhere."""
    schema = {"type": "object", "properties": {}}
    return ExternalToolset([ToolDefinition(name=name, parameters_json_schema=schema)])


def act() -> str:
    """Act."""
    return "acted"


def explode() -> str:
    """Explode."""
    detail = "disk on fire"
    raise OSError(detail)


def ask_again() -> str:
    """Ask for another try."""
    detail = "say please"
    raise ModelRetry(detail)


async def test_a_call_that_is_run_elsewhere_waits_also_where_the_server_stopped_before_its_pause(
    tmp_path: Path,
) -> None:
    has_begun = asyncio.Event()
    tries: list[int] = []

    async def look() -> str:
        """Look, and be cut off the first time."""
        tries.append(1)
        has_begun.set()
        if len(tries) == 1:
            await asyncio.sleep(60)
        return "seen"

    script = ScriptedModel([Call("look"), Call("act", call_id="a")], "done")
    tools = [Tool(look, metadata=policy(idempotent=True))]
    agent = Agent(script.model, name="agent", tools=tools, toolsets=[external("act")])
    async with driving(tmp_path, agent) as server:
        begun = await server.begin("go", agent="agent")
        await has_begun.wait()
    async with driving(tmp_path, agent) as server:
        run = await server.settled(begun)
        done = await server.answer_with(run, {**run["tools"][1], "result": "theirs"})
    assert (run["status"], done["status"], len(tries)) == ("PAUSED", "COMPLETED", 2)
    assert said_by_tools(done) == [("look", "seen"), ("act", "theirs")]


async def test_an_approved_call_whose_tool_is_run_elsewhere_by_now_waits_for_that(tmp_path: Path) -> None:
    script = ScriptedModel([Call("act")], "done")
    agent = Agent(script.model, name="agent", tools=[Tool(act, requires_approval=True)])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
    changed = Agent(script.model, name="agent", toolsets=[external("act")])
    async with driving(tmp_path, changed) as server:
        again = await server.confirm(run)
        done = await server.answer_with(again, {**again["tools"][0], "result": "theirs"})
    assert (again["status"], again["tools"][0]["external_execution_required"]) == ("PAUSED", True)
    assert (done["status"], said_by_tools(done)) == ("COMPLETED", [("act", "theirs")])
    assert [tool.kind for tool in script.infos[-1].function_tools] == ["external"]


@pytest.mark.parametrize("becomes", ["gone", "external"])
@pytest.mark.parametrize(
    ("tool", "end"), [(explode, ("failed", "disk on fire")), (ask_again, ("retried", "say please"))]
)
async def test_how_a_call_ended_is_told_to_the_model_also_where_its_tool_is_another_by_then(
    tmp_path: Path, tool: Callable[[], str], end: tuple[str, str], becomes: str
) -> None:
    name = tool.__name__
    approved = Tool(act, requires_approval=True)
    script = ScriptedModel([Call(name), Call("act")], "done")
    before = Agent(script.model, name="agent", tools=[Tool(tool, max_retries=1), approved], retries=0)
    async with driving(tmp_path, before) as server:
        run = await server.run()
    toolsets = [external(name)] if becomes == "external" else []
    after = Agent(script.model, name="agent", tools=[approved], toolsets=toolsets, retries=0)
    async with driving(tmp_path, after) as server:
        done = await server.confirm(run)
    assert (done["status"], done["content"]) == ("COMPLETED", "done")
    ended, _ = parts_of(script.requests[-1], ToolReturnPart)
    assert (ended.outcome, str(ended.content)) == end
