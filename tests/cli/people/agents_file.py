"""An agent for the tests of the command line: its prompt is JSON, and says what the model does.

A list of ``{"tool": …, "args": …}`` makes these calls; a text is said. Then the model says what the tools returned.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

from pydantic_ai import Agent, CallDeferred, Tool, ToolDefinition
from pydantic_ai.messages import ModelMessage, ModelRequest, RetryPromptPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.toolsets import ExternalToolset

from unpause.agents.policy import policy

FOLDER = Path(os.environ["TEST_FOLDER"])
SHELL = ToolDefinition(
    name="shell",
    parameters_json_schema={"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
)


def restart(service: str) -> str:
    """Restart a service."""
    return f"restarted {service}"


def drain(service: str) -> str:
    """Drain a service."""
    return f"drained {service}"


def look(service: str) -> str:
    """Look at a service, without asking anybody."""
    return f"looked at {service}"


def pay(payee: str, amount: int) -> str:
    """Pay an invoice."""
    return f"paid {amount} to {payee}"


def mail(subject: str, to: Literal["olga", "7"], copies: int) -> str:
    """Send a mail."""
    return f"sent {subject} to {to} with {copies} copies"


def deploy(version: str) -> str:
    """Deploy a version."""
    return f"deployed {version}"


def ask(question: str) -> str:
    """Ask the user."""
    raise CallDeferred(metadata={"question": question}, kind="question")


def wait(door: str) -> str:
    """Wait at a door of the test."""
    (FOLDER / f"{door}.arrived").write_bytes(b".")
    with (FOLDER / f"{door}.leave").open("rb", buffering=0) as leave:
        leave.read(1)
    return "waited"


async def _answer(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
    del info
    last = messages[-1]
    assert isinstance(last, ModelRequest)
    prompts = [part.content for part in last.parts if isinstance(part, UserPromptPart)]
    if not prompts:
        told = (part for part in last.parts if isinstance(part, ToolReturnPart | RetryPromptPart))
        yield f"Told: {' | '.join(str(part.content) for part in told)}"
        return
    match json.loads(str(prompts[0])):
        case str(words):
            yield words
        case [*calls]:
            yield {at: DeltaToolCall(one["tool"], json.dumps(one["args"])) for at, one in enumerate(calls)}
        case _:
            raise RuntimeError("the model \x1b]0;broke\x07")


def _model(name: str) -> FunctionModel:
    return FunctionModel(stream_function=_answer, model_name=name)


ops = Agent(
    _model("script"),
    name="ops",
    tools=[
        Tool(restart, requires_approval=True),
        Tool(drain, requires_approval=True, metadata=policy(remember="tool")),
        Tool(pay, requires_approval=True, metadata=policy(editable=["amount"])),
        Tool(mail, metadata=policy(user_input=["to", "copies"])),
        Tool(deploy, metadata=policy(approval="required")),
        *(Tool(look), Tool(ask), Tool(wait)),
    ],
    toolsets=[ExternalToolset([SHELL], id="shell")],
)
other = Agent(_model("script"), name="other", tools=[Tool(restart, requires_approval=True)])
watched = Agent(_model("script"), name="watched", tools=[Tool(restart, requires_approval=True)])
