"""A Pydantic AI agent whose model answers at once: asks for one call that needs approval, then says it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_ai import Agent
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pydantic_ai.messages import ModelMessage

_ARGUMENTS = '{"on": "it"}'


async def _answer(messages: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
    if _has_result(messages):
        return ModelResponse(parts=[TextPart("done")])
    return ModelResponse(parts=[ToolCallPart("act", _ARGUMENTS, "call-1")])


async def _stream(messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
    if _has_result(messages):
        yield "done"
    else:
        yield {0: DeltaToolCall(name="act", json_args=_ARGUMENTS, tool_call_id="call-1")}


def _has_result(messages: list[ModelMessage]) -> bool:
    last = messages[-1]
    return isinstance(last, ModelRequest) and any(isinstance(part, ToolReturnPart) for part in last.parts)


agent = Agent(FunctionModel(_answer, stream_function=_stream), name="instant")


@agent.tool_plain(requires_approval=True)
def act(on: str) -> str:
    """Do it."""
    return f"did {on}"
