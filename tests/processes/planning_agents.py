"""An agent for server processes whose model plans what it is asked for: each line that starts with ``- `` is a command.

Once anything has run, what remains is read from the newest words instead.
"""

from __future__ import annotations

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolCallPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel


def _plan(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    asked = messages[0]
    assert isinstance(asked, ModelRequest)
    text = "".join(
        piece
        for part in asked.parts
        if isinstance(part, UserPromptPart)
        for piece in ([part.content] if isinstance(part.content, str) else part.content)
        if isinstance(piece, str)
    )
    _, later, words = text.partition("New prompt of the user:\n")
    given = words if later else text.partition("\n\nThe checkout:")[0]
    commands = [line.removeprefix("- ") for line in given.splitlines() if line.startswith("- ")]
    return ModelResponse([ToolCallPart(info.output_tools[0].name, {"commands": commands})])


planner = Agent(FunctionModel(_plan, model_name="lines"), name="planner")
