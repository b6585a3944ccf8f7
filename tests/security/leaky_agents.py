"""An agent for server processes whose model and tools say the provider's key where they fail: the message says how."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from pydantic_ai import Agent, ModelRetry, Tool
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ModelMessage, RetryPromptPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

KEY = os.environ["OPENAI_API_KEY"]


def crash() -> str:
    """Fail as a program does that shows what it was given."""
    local = KEY
    raise RuntimeError(f"could not sign in with {local}")


def retry() -> str:
    """Ask the model to try again."""
    raise ModelRetry(f"the key {KEY} is not accepted")


def refuse() -> str:
    """Tell the model that it failed."""
    raise ToolFailed(f"Authorization: Bearer {KEY}")


async def _follow(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    del info
    heard = UserPromptPart | ToolReturnPart | RetryPromptPart
    said = [str(part.content) for message in messages for part in message.parts if isinstance(part, heard)]
    if said[0] == "model":
        raise RuntimeError(f"the provider does not know {KEY}")
    if len(said) == 1:
        yield {0: DeltaToolCall(said[0], "{}", tool_call_id="call-1")}
    else:
        yield f"Told: {said[1]}"


leaky = Agent(
    FunctionModel(stream_function=_follow, model_name="leaky"),
    name="leaky",
    tools=[Tool(crash), Tool(retry), Tool(refuse)],
)
