"""A Pydantic AI agent whose model answers at once: asks for one call that needs approval, then says it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_ai import Agent
from pydantic_ai.messages import ModelRequest, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pydantic_ai.messages import ModelMessage


async def _answer(messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
    last = messages[-1]
    if isinstance(last, ModelRequest) and any(isinstance(part, ToolReturnPart) for part in last.parts):
        yield "done"
    else:
        yield {0: DeltaToolCall(name="act", json_args='{"on": "it"}', tool_call_id="call-1")}


agent = Agent(FunctionModel(stream_function=_answer), name="instant")


@agent.tool_plain(requires_approval=True)
def act(on: str) -> str:
    """Do it."""
    return f"did {on}"
