"""An agent for a server process that writes down what it asks its database: a line of JSON for each statement.

The agent asks for one confirmation and then answers with 2 KB of text. The lines go to `statements.jsonl` in the folder
TEST_FOLDER: the statement, how many rows it carries, how many characters their values have.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from sqlalchemy import Engine, event

FILE = Path(os.environ["TEST_FOLDER"]) / "statements.jsonl"
ANSWER = "x" * 2048


def _note(_connection: object, _cursor: object, statement: str, *more: Any) -> None:  # noqa: ANN401 - a hook
    parameters, _context, is_many = more
    line = {
        "statement": " ".join(statement.split()),
        "rows": len(parameters) if is_many else 1,
        "characters": len(repr(parameters)),
    }
    with FILE.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(line) + "\n")


event.listen(Engine, "before_cursor_execute", _note)


async def _answer(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    del info
    if any(isinstance(part, ToolReturnPart) for part in messages[-1].parts):
        yield ANSWER
    else:
        yield {0: DeltaToolCall("act", "{}")}


counted = Agent(FunctionModel(stream_function=_answer, model_name="counted"), name="counted")


@counted.tool_plain(requires_approval=True)
def act() -> str:
    """Do it."""
    return "did it"
