"""Agents for the server processes of these tests: the message is the script that their model follows.

A script is steps joined by `, `, each one answer of the model: `TOOL NAME` calls a tool, several joined by ` & ` are
called in one answer, `think NAME: STEP` waits at the door NAME first, `fail` is a model that breaks. After the last
step the model says what it was told. Every tool that runs appends a line to `calls.txt` in the folder TEST_FOLDER.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic_ai import Agent, Tool, ToolDefinition
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.toolsets import ExternalToolset

from unpause.agents.policy import policy

FOLDER = Path(os.environ["TEST_FOLDER"])
SHELL = ToolDefinition(
    name="shell",
    parameters_json_schema={"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
)


def write(name: str) -> str:
    """Note the call; free."""
    return _note("write", name)


def delete(name: str) -> str:
    """Note the call; wants a confirmation."""
    return _note("delete", name)


def guarded(name: str) -> str:
    """Note the call and wait at a door; wants a confirmation."""
    noted = _note("guarded", name)
    _wait_at_door(name)
    return noted


def deploy(name: str) -> str:
    """Note the call; wants an administrator."""
    return _note("deploy", name)


def _note(tool: str, name: str) -> str:
    with (FOLDER / "calls.txt").open("a", encoding="utf-8") as calls:
        calls.write(f"{tool} {name}\n")
    return f"did {tool} {name}"


def _wait_at_door(name: str) -> None:
    (FOLDER / f"{name}.arrived").write_bytes(b".")
    with (FOLDER / f"{name}.leave").open("rb", buffering=0) as leave:
        leave.read(1)


async def _follow_script(
    messages: list[ModelMessage], info: AgentInfo
) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    del info
    asked = max(index for index, message in enumerate(messages) if _words(message))
    script = _words(messages[asked]).split(", ")
    answered = sum(isinstance(message, ModelResponse) for message in messages[asked:])
    step = script[answered] if answered < len(script) else ""
    if step.startswith("think "):
        door, _, step = step.removeprefix("think ").partition(": ")
        await asyncio.to_thread(_wait_at_door, door)
    match step.partition(" ")[0]:
        case "fail":
            message = "the model broke"
            raise RuntimeError(message)
        case "write" | "delete" | "guarded" | "deploy" | "shell":
            yield {number: _call(text) for number, text in enumerate(step.split(" & "))}
        case _:
            for piece in ("Told:", *(f" {words}" for words in _told(messages[asked:]))):
                yield piece


def _call(text: str) -> DeltaToolCall:
    tool, _, name = text.partition(" ")
    return DeltaToolCall(tool, json.dumps({"name": name}))


def _words(message: ModelMessage) -> str:
    if not isinstance(message, ModelRequest):
        return ""
    return next((str(part.content) for part in message.parts if isinstance(part, UserPromptPart)), "")


def _told(messages: list[ModelMessage]) -> list[str]:
    parts = (part for message in messages for part in message.parts)
    return [part.model_response_str() for part in parts if isinstance(part, ToolReturnPart)]


scripted = Agent(
    FunctionModel(stream_function=_follow_script, model_name="script"),
    name="scripted",
    tools=[
        Tool(write),
        Tool(delete, requires_approval=True),
        Tool(guarded, requires_approval=True),
        Tool(deploy, metadata=policy(approval="required")),
    ],
    toolsets=[ExternalToolset([SHELL], id="shell")],
)
