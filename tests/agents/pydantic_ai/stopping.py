"""Agents whose tools stop at gates, so that a test can ask their run to pause just there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pydantic_ai import Agent, Tool
from pydantic_ai.messages import ToolReturnPart, UserPromptPart

from tests.agents.pydantic_ai.driving import DrivenServer, driving
from tests.support.agents import Call, ScriptedModel, parts_of
from tests.support.gates import Gates
from tests.support.toolbox import JsonObject


class Hands:
    """Tools that keep what they did, and pass the gate of their argument."""

    def __init__(self, *gates: str) -> None:
        self.did: list[str] = []
        self.gates = Gates(*gates)

    async def do(self, what: str) -> str:
        """Need nobody."""
        return await self._do("do", what)

    async def alone(self, what: str) -> str:
        """Run beside no other."""
        return await self._do("alone", what)

    async def act(self, what: str) -> str:
        """Need a confirmation."""
        return await self._do("act", what)

    async def _do(self, name: str, what: str) -> str:
        self.did.append(f"{name} {what}")
        await self.gates.pass_through(what)
        return f"{name} {what} done"


def handy_agent(script: ScriptedModel, hands: Hands, **more: Any) -> Agent[None, Any]:  # noqa: ANN401 - any argument
    """Return an agent with these tools."""
    tools = [Tool(hands.do), Tool(hands.alone, sequential=True), Tool(hands.act, requires_approval=True)]
    return Agent(script.model, name="agent", tools=tools, **more)


@asynccontextmanager
async def begun(
    folder: Path, hands: Hands, agent: Agent[None, Any], gate: str
) -> AsyncIterator[tuple[DrivenServer, Any]]:
    """Serve the agent with a run that stands at the gate."""
    async with driving(folder, agent) as server:
        run = await server.begin("go", agent="agent")
        await hands.gates.reached(gate)
        yield server, run


async def paused_at(server: DrivenServer, hands: Hands, run: JsonObject, gate: str) -> JsonObject:
    """Ask the run, which stands at the gate, to pause; open the gate and return the run, paused."""
    await server.pause(run)
    hands.gates.open(gate)
    paused = await server.settled(run)
    assert paused["status"] == "PAUSED"
    return paused


def do(*names: str) -> list[Call]:
    """Return calls that may run beside one another."""
    return [Call("do", {"what": name}) for name in names]


def alone(*names: str) -> list[Call]:
    """Return calls that run one after the other."""
    return [Call("alone", {"what": name}) for name in names]


def reported(script: ScriptedModel) -> list[tuple[str, str]]:
    """Return what the model was told last by tools and by the user, in order."""
    found = parts_of(script.requests[-1], ToolReturnPart, UserPromptPart)
    return [(getattr(part, "tool_name", "user"), str(part.content)) for part in found]
