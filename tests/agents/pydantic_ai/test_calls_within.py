"""Tools that call other tools: that is a part of their own call, and none of it runs that people have to decide."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, RunContext, Tool
from pydantic_ai.capabilities import AbstractCapability, Hooks
from pydantic_ai.messages import ToolCallPart
from pydantic_ai.toolsets import AbstractToolset, ToolsetTool, WrapperToolset

from tests.agents.pydantic_ai.driving import driving, said_by_tools
from tests.support.agents import Call, ScriptedModel
from unpause import policy


def calling_agent(did: list[str], script: ScriptedModel, *, approved: bool = False, **more: Any) -> Agent[None, str]:  # noqa: ANN401 - any argument
    """Return an agent whose tool ``pass_on`` calls the one that it is told to."""

    async def pass_on(ctx: RunContext[None], to: str) -> str:
        assert ctx.tool_manager is not None
        return str(await ctx.tool_manager.handle_call(ToolCallPart(to, {}), approved=approved))

    def look() -> str:
        did.append("look")
        return "seen"

    def act() -> str:
        did.append("act")
        return "acted"

    tools = [
        Tool(pass_on),
        Tool(look),
        Tool(act, requires_approval=True),
        Tool(act, name="audited", metadata=policy(approval="audit")),
    ]
    return Agent(script.model, name="agent", tools=tools, **more)


@pytest.mark.parametrize("capabilities", [[], [Hooks()]], ids=["plain", "hooks"])
async def test_a_tool_that_needs_nobody_runs_within_another_one(tmp_path: Path, capabilities: list[Any]) -> None:
    did: list[str] = []
    script = ScriptedModel([Call("pass_on", {"to": "look"}, "c1")])
    async with driving(tmp_path, calling_agent(did, script, capabilities=capabilities)) as server:
        done = await server.run()
    assert (done["status"], said_by_tools(done), did) == ("COMPLETED", [("pass_on", "seen")], ["look"])
    assert [tool["tool_name"] for tool in done["tools"]] == ["pass_on"]


@pytest.mark.parametrize("capabilities", [[], [Hooks()]], ids=["plain", "hooks"])
@pytest.mark.parametrize("approved", [False, True])
@pytest.mark.parametrize("tool", ["act", "audited"])
async def test_a_tool_that_waits_for_people_does_not_run_within_another_one(
    tmp_path: Path, tool: str, capabilities: list[Any], *, approved: bool
) -> None:
    did: list[str] = []
    script = ScriptedModel([Call("pass_on", {"to": tool}, "c1")])
    agent = calling_agent(did, script, approved=approved, capabilities=capabilities)
    async with driving(tmp_path, agent) as server:
        done = await server.run()
    reason = f"{tool} waits for people, and was called by another tool: only calls that the model makes can wait"
    assert (done["status"], said_by_tools(done), did) == ("COMPLETED", [("pass_on", reason)], [])


@dataclass
class Renaming(WrapperToolset[None]):
    """Gives calls an id that the model has not given them."""

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[None], tool: ToolsetTool[None]
    ) -> Any:  # noqa: ANN401 - whatever the tool returns
        return await super().call_tool(name, tool_args, replace(ctx, tool_call_id="another"), tool)


class RenamingCapability(AbstractCapability[None]):
    """Wraps all tools so."""

    def get_wrapper_toolset(self, toolset: AbstractToolset[None]) -> AbstractToolset[None]:
        return Renaming(toolset)


async def test_a_call_that_no_tool_has_made_and_the_journal_does_not_know_does_not_run(tmp_path: Path) -> None:
    did: list[str] = []
    script = ScriptedModel([Call("look", {}, "c1")])
    agent = calling_agent(did, script, capabilities=[RenamingCapability()])
    async with driving(tmp_path, agent) as server:
        done = await server.run()
    assert (done["status"], did) == ("ERROR", [])
