"""Agents for many processes: the message is the script that their model follows, step by step.

A script is steps separated by `, `; each step is one answer of the model. `TOOL NAME` calls a tool, `say WORDS`
streams them as the last answer, a word at a time; after the last step the model says what it was told. Every tool
that runs appends two lines to `calls.txt` in the folder that TEST_FOLDER names, `began TOOL NAME NODE TIME PID` and
`ended TOOL NAME NODE TIME PID`, PID being the process that the tool runs in, each with one write to a file opened for
appending: none overwrites another's.

Of each kind of tool there is one that may simply run again after a crash, and one that may not.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic_ai import Agent, Tool
from pydantic_ai.messages import ModelMessage, ModelResponse, RetryPromptPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from unpause.agents.policy import policy

FOLDER = Path(os.environ["TEST_FOLDER"])

# The node: this process, or the one that started it where agents run in a process of their own.
NODE = os.getppid() if "unpause.cli.agent_process" in sys.orig_argv else os.getpid()

# How long a `work` takes, and how long the model is silent between two words.
WORK_SECONDS = float(os.environ.get("TEST_WORK_SECONDS", "0.5"))
WORD_SECONDS = 0.05


async def work(name: str) -> str:
    """Take a while."""
    return await _take_a_while("work", name)


async def rework(name: str) -> str:
    """Take a while, and be ready to do so again."""
    return await _take_a_while("rework", name)


def gated(name: str) -> str:
    """Wait at a door, in a thread."""
    return _wait_at_door("gated", name)


def regated(name: str) -> str:
    """Wait at a door, in a thread, and be ready to do so again."""
    return _wait_at_door("regated", name)


def confirmed(name: str) -> str:
    """Want a confirmation first."""
    _note("began", "confirmed", name)
    _note("ended", "confirmed", name)
    return f"did confirmed {name}"


def die(name: str) -> str:
    """Take the whole process along, every time."""
    _note("began", "die", name)
    os._exit(3)


async def _take_a_while(tool: str, name: str) -> str:
    _note("began", tool, name)
    await asyncio.sleep(WORK_SECONDS)
    _note("ended", tool, name)
    return f"did {tool} {name}"


def _wait_at_door(tool: str, name: str) -> str:
    """Say at the door that somebody is there, and stay until the test lets go."""
    _note("began", tool, name)
    (FOLDER / f"{name}.arrived").write_bytes(b".")
    with (FOLDER / f"{name}.leave").open("rb", buffering=0) as leave:
        leave.read(1)
    _note("ended", tool, name)
    return f"did {tool} {name}"


def _note(what: str, tool: str, name: str) -> None:
    file = os.open(FOLDER / "calls.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(file, f"{what} {tool} {name} {NODE} {time.time()} {os.getpid()}\n".encode())
    finally:
        os.close(file)


async def _follow_script(
    messages: list[ModelMessage], info: AgentInfo
) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    del info
    script, told = _read(messages)
    answered = sum(isinstance(message, ModelResponse) for message in messages)
    step = script[answered] if answered < len(script) else f"say Told: {' | '.join(told)}"
    word, _, rest = step.partition(" ")
    if word == "say":
        for piece in rest.split(" "):
            yield f"{piece} "
            await asyncio.sleep(WORD_SECONDS)
    else:
        yield {0: DeltaToolCall(word, json.dumps({"name": rest}), tool_call_id=f"call-{answered}")}


def _read(messages: list[ModelMessage]) -> tuple[list[str], list[str]]:
    """Return the steps of the script, and all that the model was told since."""
    said: list[str] = []
    for message in messages:
        for part in message.parts:
            if isinstance(part, ToolReturnPart):
                said.append(part.model_response_str(wrap_if_error=False))
            elif isinstance(part, UserPromptPart | RetryPromptPart):
                said.append(str(part.content))
    return said[0].split(", "), said[1:]


scripted = Agent(
    FunctionModel(stream_function=_follow_script, model_name="script"),
    name="scripted",
    tools=[
        Tool(work),
        Tool(rework, metadata=policy(idempotent=True)),
        Tool(gated),
        Tool(regated, metadata=policy(idempotent=True)),
        Tool(confirmed, requires_approval=True),
        Tool(die, metadata=policy(idempotent=True)),
    ],
)
