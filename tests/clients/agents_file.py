"""Agents for the published clients: the first word of the message picks what their model does.

`say WORDS` repeats the words in small pieces; `wait` says one word and then nothing; `fail` fails. The other words
are in `_SCRIPTS`: each tuple is one answer of the model with the calls it makes, and after the last one it says what
its tools told it. Every tool that runs appends a line to `calls.txt` in the folder that TEST_FOLDER names.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias
from uuid import uuid4

from pydantic_ai import Agent, Tool, ToolDefinition
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.toolsets import ExternalToolset

from unpause.agents.policy import policy

Call: TypeAlias = "tuple[str, dict[str, Any]]"

FOLDER = Path(os.environ["TEST_FOLDER"])
PIECE = 7

_SCRIPTS: Mapping[str, tuple[tuple[Call, ...], ...]] = MappingProxyType(
    {
        "add": ((("add", {"a": 2, "b": 3}),),),
        "delete": ((("delete_file", {"path": "PATH"}),),),
        "both": ((("delete_file", {"path": "PATH-1"}), ("delete_file", {"path": "PATH-2"})),),
        "mixed": ((("add", {"a": 1, "b": 1}), ("delete_file", {"path": "PATH"})),),
        "chain": ((("delete_file", {"path": "PATH-1"}),), (("delete_file", {"path": "PATH-2"}),)),
        "broken": ((("broken", {"path": "PATH"}),),),
        "mail": ((("send_email", {"subject": "PATH"}),),),
        "shell": ((("run_shell", {"command": "ls PATH"}),),),
        "deploy": ((("deploy", {"env": "PATH"}),),),
        "audited": ((("audited", {"path": "PATH"}),),),
        # A tool of an AG-UI front end.
        "page": ((("show_toast", {"text": "PATH"}),),),
    },
)

_RUN_SHELL = ToolDefinition(
    name="run_shell",
    description="Run a shell command on the client's machine.",
    parameters_json_schema={
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
        "additionalProperties": False,
    },
)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def delete_file(path: str) -> str:
    """Delete a file."""
    return _note(f"deleted {path}")


def broken(path: str) -> str:
    """Fail."""
    message = f"no disk for {path}"
    raise OSError(message)


def send_email(subject: str, to_address: str, copies: int) -> str:
    """Send an email.

    Args:
        subject: The subject.
        to_address: The address to send to.
        copies: How many copies.
    """
    return _note(f"sent {subject} to {to_address} {copies} times")


def deploy(env: str) -> str:
    """Deploy to an environment."""
    return _note(f"deployed to {env}")


def audited(path: str) -> str:
    """Do something that administrators want to read about."""
    return _note(f"did {path}")


def _note(done: str) -> str:
    with (FOLDER / "calls.txt").open("a", encoding="utf-8") as calls:
        calls.write(f"{done}\n")
    return done


async def _answer(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    del info
    requested, turns = _this_run(messages)
    word, _, rest = requested.partition(" ")
    if word == "fail":
        message = "the model is out of order"
        raise RuntimeError(message)
    script = _SCRIPTS.get(word, ())
    answered = sum(isinstance(message, ModelResponse) for message in turns)
    if answered < len(script):
        yield {place: _call(name, arguments, rest) for place, (name, arguments) in enumerate(script[answered])}
        return
    text = f"Told: {' | '.join(_told(turns))}" if script else rest
    for start in range(0, len(text), PIECE):
        yield text[start : start + PIECE]
    if word == "wait":
        await asyncio.Event().wait()


def _call(name: str, arguments: dict[str, Any], path: str) -> DeltaToolCall:
    written = {
        key: value.replace("PATH", path) if isinstance(value, str) else value for key, value in arguments.items()
    }
    return DeltaToolCall(name, json.dumps(written), tool_call_id=f"call_{uuid4().hex}")


def _this_run(messages: list[ModelMessage]) -> tuple[str, list[ModelMessage]]:
    """Return the newest words of the user and the messages that follow them; what is before is history."""
    for index in range(len(messages) - 1, -1, -1):
        for part in messages[index].parts:
            if isinstance(part, UserPromptPart):
                return str(part.content), messages[index + 1 :]
    message = "the model was asked without any words of the user"
    raise LookupError(message)


def _told(turns: list[ModelMessage]) -> list[str]:
    parts = (part for turn in turns if isinstance(turn, ModelRequest) for part in turn.parts)
    return [part.model_response_str(wrap_if_error=False) for part in parts if isinstance(part, ToolReturnPart)]


desk = Agent(
    FunctionModel(stream_function=_answer, model_name="script-1"),
    name="desk",
    tools=[
        Tool(add),
        Tool(delete_file, requires_approval=True),
        Tool(broken, requires_approval=True),
        Tool(send_email, metadata=policy(user_input=["to_address", "copies"])),
        Tool(deploy, requires_approval=True, metadata=policy(approval="required")),
        Tool(audited, requires_approval=True, metadata=policy(approval="audit")),
    ],
    toolsets=[ExternalToolset([_RUN_SHELL], id="shell")],
)
other = Agent(FunctionModel(stream_function=_answer, model_name="script-1"), name="other")
