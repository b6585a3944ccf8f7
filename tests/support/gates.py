"""Places where a test can hold a run still, and agents that pass through them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from pydantic_ai import Agent, ModelRetry, Tool
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from tests.support.toolless import Toolless
from unpause.agents.driver import AgentDriver, Journal, Segment, SegmentEnd
from unpause.agents.policy import policy


class Gates:
    """Named places on a run's way; those named at the start are closed until ``open`` is called."""

    def __init__(self, *closed: str) -> None:
        self._closed = {name: asyncio.Event() for name in closed}
        self._reached = {name: asyncio.Event() for name in closed}

    async def pass_through(self, name: str) -> None:
        """Go through, or note that somebody came here and wait."""
        if name in self._closed:
            self._reached[name].set()
            await self._closed[name].wait()

    async def reached(self, name: str) -> None:
        """Wait until somebody stands at this closed place."""
        await self._reached[name].wait()

    def open(self, name: str) -> None:
        """Let everybody through."""
        self._closed[name].set()


class GatedDriver(Toolless):
    """A driver behind a gate for each segment: ``segment 1`` for a run's first claim, and so on."""

    def __init__(self, inner: AgentDriver, gates: Gates) -> None:
        self._inner = inner
        self._gates = gates
        self.agent_id = inner.agent_id
        self.agent_name = inner.agent_name
        self.model_name = inner.model_name
        self.model_provider = inner.model_provider

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Wait at the gate of this segment, then go on."""
        await self._gates.pass_through(f"segment {segment.run.fence}")
        return await self._inner.run_segment(segment, journal)


def working_agent(executed: list[str], gates: Gates) -> Agent[None, str]:
    """Return the agent ``worker``: each word of the message is a tool it calls, all of them in its first answer.

    Tools: ``charge`` needs a confirmation, ``note`` may not run twice, ``look`` is idempotent, ``break`` fails and
    ``retry`` asks the model to try again. Each notes in ``executed`` that it runs, then passes the gate of its name.
    The model passes ``think`` and ``answer`` before its two answers, of which the second repeats what the tools said
    and the newest words of the user.
    """

    async def run_tool(name: str) -> str:
        executed.append(name)
        await gates.pass_through(name)
        return f"{name} is done"

    async def charge() -> str:
        """Take money."""
        return await run_tool("charge")

    async def note() -> str:
        """Write something down."""
        return await run_tool("note")

    async def look() -> str:
        """Look something up."""
        return await run_tool("look")

    async def break_down() -> str:
        """Fail."""
        raise LookupError(await run_tool("break"))

    async def retry() -> str:
        """Ask for another try."""
        raise ModelRetry(await run_tool("retry"))

    async def answer(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        del info
        if not any(isinstance(message, ModelResponse) for message in messages):
            await gates.pass_through("think")
            words = _said_by_user(messages)[-1].split()
            yield {
                spot: DeltaToolCall(word, json.dumps({}), tool_call_id=f"call-{spot}")
                for spot, word in enumerate(words)
            }
            return
        await gates.pass_through("answer")
        yield "; ".join([*_said_by_tools(messages), *_said_by_user(messages)[1:]])

    return Agent(
        FunctionModel(stream_function=answer, model_name="worker-1"),
        name="worker",
        tools=[
            Tool(charge, requires_approval=True),
            Tool(note),
            Tool(look, metadata=policy(idempotent=True)),
            Tool(break_down, name="break"),
            Tool(retry),
        ],
    )


def _parts(messages: list[ModelMessage]) -> list[Any]:
    return [part for message in messages if isinstance(message, ModelRequest) for part in message.parts]


def _said_by_user(messages: list[ModelMessage]) -> list[str]:
    return [str(part.content) for part in _parts(messages) if isinstance(part, UserPromptPart)]


def _said_by_tools(messages: list[ModelMessage]) -> list[str]:
    return [part.model_response_str() for part in _parts(messages) if isinstance(part, ToolReturnPart)]
