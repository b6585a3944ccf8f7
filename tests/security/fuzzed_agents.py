"""An agent for server processes that get odd requests: it calls the tools that the message names, all at once.

`call delete fill` calls those two; each call has the name of its tool as its id. Any other message is answered.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

from pydantic_ai import Agent, Tool, ToolDefinition
from pydantic_ai.messages import ModelMessage, ModelResponse, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.toolsets import ExternalToolset

from unpause.agents.policy import policy


def delete(name: str) -> str:
    """Delete something; wants a confirmation."""
    return f"deleted {name}"


def deploy(name: str) -> str:
    """Deploy something; wants an approval."""
    return f"deployed {name}"


def fill(name: str, code: str) -> str:
    """Fill something in; the user knows the code."""
    return f"filled {name} with {len(code)} characters"


async def _follow(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    del info
    prompts = [str(part.content) for message in messages for part in message.parts if isinstance(part, UserPromptPart)]
    words = prompts[-1].split()
    is_answered = isinstance(messages[-1], ModelResponse) or len(messages[-1].parts) != 1 or not prompts
    is_asked = not is_answered and isinstance(messages[-1].parts[0], UserPromptPart)
    if is_asked and words[:1] == ["call"]:
        yield {
            number: DeltaToolCall(tool, json.dumps({"name": "a"}), tool_call_id=tool)
            for number, tool in enumerate(words[1:])
        }
    else:
        yield "Done."


_SHELL = ToolDefinition(
    name="shell",
    parameters_json_schema={"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
)

fuzzed = Agent(
    FunctionModel(stream_function=_follow, model_name="fuzzed"),
    name="fuzzed",
    tools=[
        Tool(delete, requires_approval=True),
        Tool(deploy, metadata=policy(approval="required")),
        Tool(fill, metadata=policy(user_input=["code"])),
    ],
    toolsets=[ExternalToolset([_SHELL], id="elsewhere")],
)
