"""Agents for server processes: the message is the script that their model follows, step by step.

A script is steps separated by `, `; each step is one answer of the model. `TOOL ARGUMENT` calls a tool (several
joined by ` & ` are called in one answer), `say WORDS` streams them as the last answer, `fail` is a model that breaks,
`pieces NAME` streams half of an answer before the door NAME and half after it. `think NAME: STEP` keeps the model at
the door NAME before it answers. After the last step the model says what it was told since the script. Every tool that
runs appends a line to `calls.txt` in the folder that TEST_FOLDER names.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic_ai import Agent, CallDeferred, RunContext, Tool, ToolDefinition
from pydantic_ai.messages import ModelMessage, ModelResponse, RetryPromptPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.toolsets import ExternalToolset

from unpause import idempotency_key, policy

FOLDER = Path(os.environ["TEST_FOLDER"])
SHELL = ToolDefinition(
    name="shell",
    parameters_json_schema={"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
)
# What a script begins with; other words of the user are an answer.
_WORDS = {"write", "delete", "guarded", "repeatable", "deploy", "ask", "shell", "say", "pieces", "think", "fail"}


def write(name: str) -> str:
    """Note the call; free."""
    return _note("write", name)


def delete(name: str) -> str:
    """Note the call; wants a confirmation."""
    return _note("delete", name)


def guarded(ctx: RunContext[None], name: str) -> str:
    """Note the call and its key, and wait at a door; wants a confirmation."""
    noted = _note("guarded", name)
    with (FOLDER / f"{name}.keys").open("a", encoding="utf-8") as keys:
        keys.write(f"{idempotency_key(ctx)}\n")
    _wait_at_door(name)
    return noted


def repeatable(name: str) -> str:
    """Note the call and wait at a door; wants a confirmation, and may be run again without another."""
    noted = _note("repeatable", name)
    _wait_at_door(name)
    return noted


def deploy(name: str) -> str:
    """Note the call; wants an administrator."""
    return _note("deploy", name)


def ask(name: str) -> str:
    """Ask the user."""
    raise CallDeferred(metadata={"question": name}, kind="question")


def _note(tool: str, name: str) -> str:
    with (FOLDER / "calls.txt").open("a", encoding="utf-8") as calls:
        calls.write(f"{tool} {name}\n")
    return f"did {tool} {name}"


def _wait_at_door(name: str) -> None:
    """Say at the door that somebody is there, and stay until the test lets go."""
    (FOLDER / f"{name}.arrived").write_bytes(b".")
    with (FOLDER / f"{name}.leave").open("rb", buffering=0) as leave:
        leave.read(1)


async def _follow_script(
    messages: list[ModelMessage], info: AgentInfo
) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    del info
    script, answered, told = _read(messages)
    step = script[answered] if answered < len(script) else f"say Told: {' | '.join(told)}"
    if step.startswith("think "):
        door, _, step = step.removeprefix("think ").partition(": ")
        await asyncio.to_thread(_wait_at_door, door)
    word, _, rest = step.partition(" ")
    if word == "say":
        for number, piece in enumerate(rest.split(" ")):
            yield f" {piece}" if number else piece
    elif word == "pieces":
        yield "first half, "
        await asyncio.to_thread(_wait_at_door, rest)
        yield "second half"
    elif word == "fail":
        message = "the model broke"
        raise RuntimeError(message)
    else:
        yield {number: _call(text, answered, number) for number, text in enumerate(step.split(" & "))}


def _read(messages: list[ModelMessage]) -> tuple[list[str], int, list[str]]:
    """Return the steps of the newest script, how many are done, and all that the model was told since."""
    script, answered = [""], 0
    said: list[str] = []
    for message in messages:
        if isinstance(message, ModelResponse):
            answered += 1
            continue
        for part in message.parts:
            if isinstance(part, UserPromptPart) and str(part.content).partition(" ")[0] in _WORDS:
                script, answered, said = str(part.content).split(", "), 0, []
            elif isinstance(part, ToolReturnPart):
                said.append(part.model_response_str(wrap_if_error=False))
            elif isinstance(part, UserPromptPart | RetryPromptPart):
                said.append(str(part.content))
    return script, answered, said


def _call(text: str, answered: int, number: int) -> DeltaToolCall:
    tool, _, name = text.partition(" ")
    return DeltaToolCall(tool, json.dumps({"name": name}), tool_call_id=f"call-{answered}-{number}")


scripted = Agent(
    FunctionModel(stream_function=_follow_script, model_name="script"),
    name="scripted",
    tools=[
        Tool(write),
        Tool(delete, requires_approval=True),
        Tool(guarded, requires_approval=True),
        Tool(repeatable, requires_approval=True, metadata=policy(idempotent=True)),
        Tool(deploy, metadata=policy(approval="required")),
        Tool(ask),
    ],
    toolsets=[ExternalToolset([SHELL], id="shell")],
)
