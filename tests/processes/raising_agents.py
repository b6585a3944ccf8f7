"""Agents for server processes: each is named like the part of it that raises what the message names."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Self

from pydantic_ai import Agent, RunContext, Tool, ToolDefinition
from pydantic_ai.capabilities import Hooks, ProcessHistory
from pydantic_ai.messages import ModelMessage, ModelResponse, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.toolsets import FunctionToolset, ToolsetTool, WrapperToolset


class Panic(BaseException):
    """As what an extension written in Rust raises."""


class Mute(Exception):
    """An exception that cannot be read."""

    def __str__(self) -> str:
        """Fail."""
        raise Panic("no words")


RAISED: dict[str, Callable[[], BaseException]] = {
    "Panic": lambda: Panic("index out of bounds"),
    "SystemExit": lambda: SystemExit(2),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "BaseExceptionGroup": lambda: BaseExceptionGroup("many", [Panic("one"), SystemExit(3)]),
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "Mute": Mute,
}


def error_of(kind: str) -> BaseException:
    """Return a new one of the kind."""
    return RAISED[kind]()


def raising(ctx: RunContext[Any]) -> str:
    """Raise what the message names."""
    raise error_of(str(ctx.prompt))


async def raising_later(ctx: RunContext[Any]) -> str:
    """Raise it from a coroutine."""
    await asyncio.sleep(0)
    return raising(ctx)


def harmless() -> str:
    """Do nothing."""
    return "done"


def _asked(messages: list[ModelMessage]) -> str:
    prompts = [part.content for message in messages for part in message.parts if isinstance(part, UserPromptPart)]
    return str(prompts[-1])


async def _stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
    del info
    yield "half an answer "
    raise error_of(_asked(messages))


async def _refuse(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    del info
    if messages:
        raise error_of(_asked(messages))
    # What makes it a generator.
    yield ""


async def _call_twice(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    """Call both tools in one answer; then say what came back."""
    del info
    if isinstance(messages[-2] if len(messages) > 1 else None, ModelResponse):
        yield " | ".join(str(getattr(part, "content", "")) for part in messages[-1].parts)
    else:
        yield {0: DeltaToolCall("raising", "{}"), 1: DeltaToolCall("harmless", "{}")}


async def _validate(ctx: RunContext[Any]) -> None:
    await raising_later(ctx)


def _output(ctx: RunContext[Any], text: str) -> str:
    return text + raising(ctx)


@dataclass
class RaisingToolset(WrapperToolset[Any]):
    """Raises when it is entered, or when its tools are listed."""

    where: str

    async def __aenter__(self) -> Self:
        """Raise what the agent's name says: nobody knows the message here."""
        if self.where.startswith("enter"):
            raise error_of(self.where.partition("-")[2])
        return await super().__aenter__()

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        """Raise what the message names."""
        if self.where == "tools":
            raising(ctx)
        return await super().get_tools(ctx)


def _hooked() -> Hooks[Any]:
    hooks: Hooks[Any] = Hooks()

    @hooks.on.before_model_request
    async def before(ctx: RunContext[Any], request_context: Any) -> Any:  # noqa: ANN401
        await raising_later(ctx)
        return request_context

    return hooks


async def _leave_behind(ctx: RunContext[Any]) -> str:
    """Leave a task and a callback behind that raise when nobody waits for them."""
    error = error_of(str(ctx.prompt))
    loop = asyncio.get_running_loop()
    task = loop.create_task(raising_later(ctx))
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    if isinstance(error, SystemExit | KeyboardInterrupt):
        loop.call_soon(sys.exit, 4)
    await asyncio.sleep(0.01)
    return "left behind"


async def _end_part(ctx: RunContext[Any]) -> str:
    """End a part of the server's background work, by its name."""
    for task in asyncio.all_tasks():
        if task.get_name() == ctx.prompt:
            task.cancel()
    await asyncio.Event().wait()
    return "never"


_CALLING = FunctionModel(stream_function=_call_twice)


async def _prepare(ctx: RunContext[Any], definition: ToolDefinition) -> ToolDefinition:
    raising(ctx)
    return definition


def _process(ctx: RunContext[Any], messages: list[ModelMessage]) -> list[ModelMessage]:
    raising(ctx)
    return messages


def _sync(ctx: RunContext[Any]) -> str:
    return raising(ctx)


agents = [
    Agent(_CALLING, name="sync-tool", tools=[Tool(_sync, name="raising"), harmless]),
    Agent(_CALLING, name="async-tool", tools=[Tool(raising_later, name="raising"), harmless]),
    Agent(_CALLING, name="behind", tools=[Tool(_leave_behind, name="raising"), harmless]),
    Agent(_CALLING, name="saboteur", tools=[Tool(_end_part, name="raising"), harmless]),
    Agent(TestModel(), name="instructions", instructions=raising),
    Agent(TestModel(), name="arguments", tools=[Tool(raising, args_validator=_validate)]),
    Agent(TestModel(), name="output-function", output_type=_output),
    Agent(TestModel(), name="hook", capabilities=[_hooked()]),
    Agent(TestModel(), name="prepare", tools=[Tool(harmless, prepare=_prepare)]),
    Agent(TestModel(), name="tools", toolsets=[RaisingToolset(FunctionToolset([harmless]), "tools")]),
    Agent(FunctionModel(stream_function=_stream), name="stream"),
    Agent(FunctionModel(stream_function=_refuse), name="request"),
    Agent(TestModel(), name="bystander", tools=[Tool(harmless, requires_approval=True)]),
]
agents.extend(
    Agent(TestModel(), name=f"enter-{kind}", toolsets=[RaisingToolset(FunctionToolset(), f"enter-{kind}")])
    for kind in RAISED
)

_history = Agent(TestModel(), name="history", capabilities=[ProcessHistory(_process)])
_prompted = Agent(TestModel(), name="system-prompt")
_prompted.system_prompt(raising)
_validated = Agent(TestModel(), name="output-validator")
_validated.output_validator(_output)
agents += [_history, _prompted, _validated]
# An agent is found by being in the module's namespace.
globals().update({f"agent_{number}": agent for number, agent in enumerate(agents)})
