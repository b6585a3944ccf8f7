"""The agent of most tests: a tool for every rule there is, and a model that makes the calls a test names.

No tool touches anything: each one notes its call in the list ``executed`` of its agent.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, TypeAlias

from pydantic_ai import Agent, Tool, ToolDefinition
from pydantic_ai.exceptions import CallDeferred
from pydantic_ai.messages import BinaryContent, ModelMessage, ModelRequest, ModelResponse, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.toolsets import ExternalToolset

from tests.support.agents import RUN_SHELL
from tests.support.gates import Gates
from unpause.agents.policy import policy

JsonObject: TypeAlias = dict[str, Any]
Turn: TypeAlias = Sequence[tuple[str, JsonObject]]
Plan: TypeAlias = list[list[tuple[str, JsonObject]]]


def plan(*turns: Turn) -> str:
    """Return a message that makes the model call these tools, one turn after the other."""
    return json.dumps(turns)


def calls(*names: str) -> str:
    """Return a message that makes the model call these tools at once, each with its usual arguments."""
    return plan([(name, _ARGUMENTS[_TOOLS[name].shape if name in _TOOLS else about_an_amount]) for name in names])


# -------------------------------------------------------------------------------- what arguments the tools have


def note(text: str) -> None:
    """Write a note."""


def about_a_path(path: str) -> None:
    """Do something with a file."""


def about_an_amount(amount: int) -> None:
    """Do something with an amount of money."""


def move_file(source: str, target: str) -> None:
    """Move a file."""


def send_email(subject: str, to_address: str, body: str) -> None:
    """Send an email.

    Args:
        subject: The subject.
        to_address: The address to send to.
        body: The body.
    """


def book(day: str, seats: int, *, quiet: bool = False) -> None:
    """Book a table."""


def deploy(env: str) -> None:
    """Deploy."""


def grant(user: str, role: str) -> None:
    """Give a user a role."""


def fill(amount: int, code: str) -> None:
    """Pay with a code that somebody else knows."""


def appoint(amount: int, role: str) -> None:
    """Give somebody an office."""


def hold(name: str) -> None:
    """Stay at the gate of this name."""


def ask(question: str) -> None:
    """Ask the user."""


_ARGUMENTS: dict[Callable[..., None], JsonObject] = {
    note: {"text": "x"},
    about_a_path: {"path": "a"},
    about_an_amount: {"amount": 5},
    deploy: {"env": "prod"},
    grant: {"user": "bob"},
    fill: {"amount": 5},
    appoint: {"amount": 5},
    hold: {"name": "door"},
}


@dataclass(frozen=True)
class _Rules:
    """What arguments a tool has, and what has to happen before it runs."""

    shape: Callable[..., None]
    metadata: JsonObject = field(default_factory=dict)
    needs_confirmation: bool = False


_LENIENT = {"match": "tool", "max_seconds": 3600}
_TOOLS = {
    "note": _Rules(note),
    "delete_file": _Rules(about_a_path, needs_confirmation=True),
    "move_file": _Rules(move_file, policy(editable=["target"]), needs_confirmation=True),
    "send_email": _Rules(send_email, policy(user_input=["to_address", "body"])),
    "book": _Rules(book, policy(user_input=["seats", "quiet"])),
    "ask": _Rules(ask),
    "deploy": _Rules(deploy, policy(approval="required")),
    "grant": _Rules(grant, policy(approval="required", user_input=["role"])),
    "pay": _Rules(about_an_amount, policy(approval="audit")),
    # Time
    "deploy_soon": _Rules(deploy, policy(approval="required", expires_in=60)),
    "soon_rejected": _Rules(about_a_path, policy(expires_in=60), needs_confirmation=True),
    "soon_approved": _Rules(about_a_path, policy(expires_in=60, on_expire="approve"), needs_confirmation=True),
    "soon_cancelled": _Rules(about_a_path, policy(expires_in=60, on_expire="cancel"), needs_confirmation=True),
    "hold": _Rules(hold, policy(expires_in=60, on_expire="approve"), needs_confirmation=True),
    # Who decides
    "transfer": _Rules(about_an_amount, policy(four_eyes=True)),
    "fill": _Rules(fill, policy(four_eyes=True, user_input=["code"])),
    "sell": _Rules(about_an_amount, policy(four_eyes=True, approval="required")),
    "promote": _Rules(appoint, policy(four_eyes=True, approval="required", user_input=["role"])),
    "sign": _Rules(about_an_amount, policy(approval="required", editable=["amount"])),
    "appoint": _Rules(appoint, policy(approval="required", user_input=["role"], editable=["amount"])),
    "edit": _Rules(about_an_amount, policy(approvers=["bob"], editable=["amount"])),
    "lend": _Rules(about_an_amount, policy(approvers=["bob", "finance:approve"])),
    "move": _Rules(about_an_amount, policy(quorum=2, expires_in=60)),
    "close": _Rules(about_an_amount, policy(quorum=2, approval="required", expires_in=60)),
    "drop": _Rules(about_an_amount, policy(quorum=2, expires_in=60, on_expire="cancel")),
    "hold_amount": _Rules(about_an_amount, policy(quorum=2, four_eyes=True)),
    # Remembered
    "publish": _Rules(about_a_path, policy(remember="arguments"), needs_confirmation=True),
    "spend": _Rules(about_an_amount, policy(remember="tool", editable=["amount"])),
    "hold_spending": _Rules(about_an_amount, policy(remember="tool"), needs_confirmation=True),
    "donate": _Rules(about_an_amount, policy(four_eyes=True, remember=_LENIENT | {"overrides": ["four_eyes"]})),
    "merge": _Rules(about_an_amount, policy(quorum=2, remember=_LENIENT | {"overrides": ["quorum"]})),
    "release": _Rules(about_an_amount, policy(approval="required", remember=_LENIENT | {"overrides": ["approval"]})),
}


def _external(name: str, parameter: str, kind: str, **rules: Any) -> ToolDefinition:  # noqa: ANN401 - any rule
    schema = {"type": "object", "properties": {parameter: {"type": kind}}, "required": [parameter]}
    return ToolDefinition(name=name, parameters_json_schema=schema, metadata=policy(**rules))


DEPLOY = calls("deploy")
_EXTERNAL = [
    RUN_SHELL,
    _external("run_job", "command", "string", approval="required"),
    _external("wire", "amount", "integer", four_eyes=True),
    _external("mint", "amount", "integer", quorum=2),
]


# -------------------------------------------------------------------------------- the agent


def toolbox_agent(executed: list[str], gates: Gates | None = None, name: str = "toolbox") -> Agent[None, str]:
    """Return the agent. Tools whose names begin with ``hold``, and the model (``think``), pass their gates.

    The model follows the newest ``plan`` in the messages. Its last answer is ``Done.`` with what the tools and, after
    the plan, the user said.
    """
    gates = gates or Gates()
    return Agent(
        FunctionModel(stream_function=_following_plans(gates), model_name="planned-1"),
        name=name,
        tools=[_bound(tool, executed, gates) for tool in _unbound_tools()],
        toolsets=[ExternalToolset(_EXTERNAL, id="elsewhere")],
    )


@cache
def _unbound_tools() -> list[Tool[None]]:
    """Return the tools without an agent: to read their signatures takes longer than to serve an agent."""
    return [
        Tool(rules.shape, name=name, requires_approval=rules.needs_confirmation, metadata=rules.metadata or None)
        for name, rules in _TOOLS.items()
    ]


def _bound(tool: Tool[None], executed: list[str], gates: Gates) -> Tool[None]:
    types = _parameters_of(tool.function)

    async def run(*texts: str, **named: object) -> str:
        if tool.name == "ask":
            raise CallDeferred(kind="question")
        arguments = {**dict(zip(types, texts, strict=False)), **named}
        # A number that came as text would have quotation marks.
        shown = [str(value) if types[key].annotation is str else repr(value) for key, value in arguments.items()]
        call = f"{tool.name}({', '.join(shown)})"
        executed.append(call)
        if tool.name.startswith("hold"):
            await gates.pass_through(str(arguments.get("name", tool.name)))
        return f"did {call}"

    bound = copy(tool)
    bound.function = run
    bound.function_schema = replace(tool.function_schema, function=run, is_async=True)
    return bound


@cache
def _parameters_of(function: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(function, eval_str=True).parameters


def _following_plans(gates: Gates) -> Any:  # noqa: ANN401 - the library's name for it is private
    async def answer(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | dict[int, DeltaToolCall]]:
        del info
        await gates.pass_through("think")
        turns, after = _newest_plan(messages)
        done = sum(isinstance(message, ModelResponse) for message in after)
        if done < len(turns):
            yield {number: DeltaToolCall(name, json.dumps(args)) for number, (name, args) in enumerate(turns[done])}
            return
        for piece in ("Done.", *(f" {words}" for words in _words_since(after))):
            yield piece

    return answer


def _newest_plan(messages: list[ModelMessage]) -> tuple[Plan, list[ModelMessage]]:
    """Return the newest plan and the messages after it; with none, an empty plan and all messages."""
    for index in range(len(messages) - 1, -1, -1):
        for part in messages[index].parts:
            if isinstance(part, UserPromptPart):
                text = _words_of(part)[0]
                if text.startswith("[["):
                    return json.loads(text), messages[index + 1 :]
    return [], messages


def _words_since(messages: list[ModelMessage]) -> list[str]:
    words: list[str] = []
    for part in (part for message in messages if isinstance(message, ModelRequest) for part in message.parts):
        if isinstance(part, UserPromptPart):
            words.append(f"The user said {_words_of(part)}.")
        elif getattr(part, "tool_call_id", None):
            words.append(f"{getattr(part, 'tool_name', None)}: {getattr(part, 'content', None)}.")
    return words


def _words_of(part: UserPromptPart) -> list[str]:
    """Return the user's words, and for each picture its type and size."""
    pieces = [part.content] if isinstance(part.content, str) else part.content
    return [
        f"{piece.media_type} of {len(piece.data)} bytes" if isinstance(piece, BinaryContent) else str(piece)
        for piece in pieces
    ]
