"""Agents behind the replayed scenarios: the first word of the message picks what their model does.

No tool touches anything: each one only writes its call into the list it was made with.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, TypeAlias
from uuid import uuid4

from pydantic_ai import Agent, Tool, ToolDefinition
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.toolsets import ExternalToolset, FunctionToolset

from unpause.agents.policy import ApprovalType, policy

Call: TypeAlias = "tuple[str, dict[str, Any]]"

PIECES: Final = 4
# The slow answer comes in so many pieces, some of them before the gate.
SLOW_PIECES: Final = 20
SLOW_PIECES_BEFORE: Final = 6

# What the model does in each of its turns; `confirm` is not here, its path comes from the message.
_SCRIPTS: Final[Mapping[str, tuple[tuple[Call, ...], ...]]] = MappingProxyType(
    {
        "safe": ((("add", {"a": 2, "b": 3}),),),
        "multi": ((("delete_file", {"path": "/data/1"}), ("delete_file", {"path": "/data/2"})),),
        "mixed": ((("add", {"a": 1, "b": 1}), ("delete_file", {"path": "/data/m"})),),
        "chain": ((("delete_file", {"path": "/data/first"}),), (("delete_file", {"path": "/data/second"}),)),
        "badtool": ((("bad_tool", {}),),),
        "input": ((("send_email", {"subject": "Hi"}),),),
        "external": ((("run_shell", {"command": "ls"}),),),
        "admin": ((("deploy", {"env": "prod"}),),),
        "admininput": ((("grant", {"user": "bob"}),),),
        "adminext": ((("ext_job", {"job": "j1"}),),),
        "audit": ((("pay", {"amount": 5}),),),
        "slowtool": ((("slow_tool", {"n": 1}),),),
    },
)


def _external(name: str, argument: str, approval: ApprovalType | None = None) -> ToolDefinition:
    return ToolDefinition(
        name=name,
        description="Run on the client's machine.",
        parameters_json_schema={
            "type": "object",
            "properties": {argument: {"type": "string"}},
            "required": [argument],
            "additionalProperties": False,
        },
        metadata=policy(approval=approval),
    )


@dataclass(frozen=True, slots=True)
class Gate:
    """Where the slow ones wait: they set `reached` before, and go on when the test sets `opened`."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def passed(self) -> None:
        """Wait until the gate is open."""
        self.reached.set()
        await self.opened.wait()


def scripted_agents(executed: list[str], gate: Gate | None = None) -> list[Agent[None, str]]:
    """Return the agents of the captured server; every execution of a tool is appended to `executed`.

    Of the slow ones the gate decides how long they take; without a gate they do not wait.
    """
    tools = ScriptedTools(executed, gate)
    model = FunctionModel(stream_function=ScriptedModel(gate).stream, model_name="scripted-1")
    hitl = Agent(
        model,
        name="hitl",
        tools=[
            Tool(tools.add),
            Tool(tools.delete_file, requires_approval=True),
            Tool(tools.slow_tool, requires_approval=True),
            Tool(tools.bad_tool, requires_approval=True),
            Tool(tools.send_email, metadata=policy(user_input=["to_address", "body"])),
        ],
        toolsets=[
            ExternalToolset([_external("run_shell", "command")], id="shell"),
            FunctionToolset(
                [
                    Tool(tools.deploy, requires_approval=True, metadata=policy(approval="required")),
                    Tool(tools.grant, metadata=policy(user_input=["role"], approval="required")),
                ],
                id="office",
            ),
            ExternalToolset([_external("ext_job", "job", approval="required")], id="jobs"),
            FunctionToolset(
                [Tool(tools.pay, requires_approval=True, metadata=policy(approval="audit"))],
                id="payments",
            ),
        ],
    )
    other = Agent(model, name="other", tools=[Tool(tools.add)])
    flow = Agent(model, name="flow")
    nodb = Agent(model, name="nodb", tools=[Tool(tools.delete_file, requires_approval=True)])
    return [hitl, other, flow, nodb]


@dataclass(frozen=True)
class ScriptedTools:
    """The tools of the agents."""

    executed: list[str]
    gate: Gate | None

    def add(self, a: int, b: int) -> int:
        """Add two numbers."""
        self.executed.append(f"add({a}, {b})")
        return a + b

    def delete_file(self, path: str) -> str:
        """Delete a file."""
        self.executed.append(f"delete_file({path})")
        return f"deleted {path}"

    async def slow_tool(self, n: int) -> str:
        """Take a while."""
        if self.gate is not None:
            await self.gate.passed()
        self.executed.append(f"slow_tool({n})")
        return f"slow {n} done"

    def bad_tool(self) -> str:
        """Fail."""
        self.executed.append("bad_tool()")
        message = "disk on fire"
        raise ValueError(message)

    def send_email(self, subject: str, to_address: str, body: str) -> str:
        """Send an email.

        Args:
            subject: The subject.
            to_address: The address to send to.
            body: The body.
        """
        self.executed.append(f"send_email({subject}, {to_address}, {body})")
        return f"sent {subject!r} to {to_address}: {body}"

    def deploy(self, env: str) -> str:
        """Deploy to an environment."""
        self.executed.append(f"deploy({env})")
        return f"deployed to {env}"

    def grant(self, user: str, role: str) -> str:
        """Grant a role."""
        self.executed.append(f"grant({user}, {role})")
        return f"granted {role} to {user}"

    def pay(self, amount: int) -> str:
        """Pay."""
        self.executed.append(f"pay({amount})")
        return f"paid {amount}"


@dataclass(frozen=True)
class ScriptedModel:
    """The model of the agents."""

    gate: Gate | None

    async def stream(
        self, messages: list[ModelMessage], info: AgentInfo
    ) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        """Yield what the first word of the message asks for."""
        del info
        prompt, turns = _this_run(messages)
        word, _, rest = prompt.partition(" ")
        if word == "fail":
            message = "model exploded"
            raise RuntimeError(message)
        if word == "slow":
            for piece in range(SLOW_PIECES):
                if piece == SLOW_PIECES_BEFORE and self.gate is not None:
                    await self.gate.passed()
                yield "slow answer "
            return
        script = ((("delete_file", {"path": rest}),),) if word == "confirm" else _SCRIPTS.get(word, ())
        answered = sum(isinstance(message, ModelResponse) for message in turns)
        if answered < len(script):
            yield {index: _delta(*call) for index, call in enumerate(script[answered])}
            return
        text = f"Done. Tool said: {' | '.join(_tool_texts(turns))}" if script else f"You said: {prompt}"
        size = -(-len(text) // PIECES)
        for start in range(0, len(text), size):
            yield text[start : start + size]


def _delta(name: str, arguments: dict[str, Any]) -> DeltaToolCall:
    return DeltaToolCall(name, json.dumps(arguments), tool_call_id=f"call_{uuid4().hex}")


def _this_run(messages: list[ModelMessage]) -> tuple[str, list[ModelMessage]]:
    """Return the newest words of the user and the messages that follow them; what is before is history."""
    for index in range(len(messages) - 1, -1, -1):
        for part in reversed(messages[index].parts):
            if isinstance(part, UserPromptPart):
                said = [part.content] if isinstance(part.content, str) else part.content
                return " ".join(piece for piece in said if isinstance(piece, str)), messages[index + 1 :]
    message = "the model was asked without any words of the user"
    raise LookupError(message)


def _tool_texts(turns: list[ModelMessage]) -> list[str]:
    """Return what the tools said, as a model reads it, in the order of the messages."""
    texts: list[str] = []
    for part in (part for turn in turns if isinstance(turn, ModelRequest) for part in turn.parts):
        if isinstance(part, ToolReturnPart):
            texts.append(part.model_response_str(wrap_if_error=False))
        elif isinstance(part, RetryPromptPart):
            texts.append(part.content if isinstance(part.content, str) else part.model_response())
    return texts
