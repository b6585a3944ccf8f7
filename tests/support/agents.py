"""Pydantic AI agents for tests: models that say what a test wrote down, and an agent with a tool of every kind.

No tool touches anything: each one only writes its call into the list it was made with.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic_ai import Agent, Tool, ToolDefinition
from pydantic_ai.exceptions import CallDeferred
from pydantic_ai.messages import BinaryContent, ModelMessage, ModelRequest, ModelResponse, UserPromptPart
from pydantic_ai.models.function import (
    AgentInfo,
    DeltaThinkingCalls,
    DeltaThinkingPart,
    DeltaToolCall,
    DeltaToolCalls,
    FunctionModel,
)
from pydantic_ai.toolsets import ExternalToolset

from unpause.agents.policy import policy

Piece: TypeAlias = str | DeltaToolCalls | DeltaThinkingCalls


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call of a scripted model; ``args`` as text is sent as it is, so it may be broken JSON."""

    name: str
    args: dict[str, Any] | str = field(default_factory=dict)
    call_id: str | None = None

    def delta(self) -> DeltaToolCall:
        """Return the call as a piece of a streamed answer."""
        text = self.args if isinstance(self.args, str) else json.dumps(self.args)
        return DeltaToolCall(self.name, text, tool_call_id=self.call_id)


@dataclass(frozen=True, slots=True)
class Thought:
    """A piece of thinking before the answer."""

    text: str


Turn: TypeAlias = str | Exception | Sequence[str | Call | Thought | Exception]


class ScriptedModel:
    """A streaming model that gives the turns in order, whoever asks, and keeps what it was asked.

    A turn is a text, an exception to raise, or a list of texts, thoughts, calls and exceptions. When the turns are
    used up the answer is ``done``.
    """

    def __init__(self, *turns: Turn) -> None:
        self.asked: list[list[ModelMessage]] = []
        self.infos: list[AgentInfo] = []
        self._turns = list(turns)
        self.model = FunctionModel(stream_function=self._stream, model_name="scripted-1")

    def add(self, *turns: Turn) -> None:
        """Add turns after those that are left."""
        self._turns.extend(turns)

    async def _stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Piece]:
        self.asked.append(list(messages))
        self.infos.append(info)
        turn: Turn = self._turns.pop(0) if self._turns else "done"
        if isinstance(turn, Exception):
            raise turn
        for index, piece in enumerate([turn] if isinstance(turn, str) else turn):
            match piece:
                case Call():
                    yield {index: piece.delta()}
                case Thought():
                    yield {index: DeltaThinkingPart(content=piece.text)}
                case Exception():
                    raise piece
                case _:
                    yield piece


Plan: TypeAlias = list[list[tuple[str, dict[str, Any]]]]


def plan(*turns: Sequence[tuple[str, dict[str, Any]]]) -> str:
    """Return a message that makes the desk agent's model call these tools, one turn after the other."""
    return json.dumps(turns)


def desk_agent(executed: list[str], name: str = "desk") -> Agent[None, str]:
    """Return an agent with a tool of every kind, whose model follows the ``plan`` in the message.

    Every execution is appended to ``executed``. The model's last answer is ``Done.`` with what the tools and, after
    the plan, the user said.
    """
    desk = _Desk(executed)
    return Agent(
        FunctionModel(stream_function=_follow_plan, model_name="planned-1"),
        name=name,
        tools=[
            Tool(desk.note),
            Tool(desk.delete_file, requires_approval=True),
            Tool(desk.move_file, requires_approval=True, metadata=policy(editable=["target"])),
            Tool(desk.send_email, metadata=policy(user_input=["to_address", "body"])),
            Tool(desk.book, metadata=policy(user_input=["seats", "quiet"])),
            Tool(desk.deploy, requires_approval=True, metadata=policy(approval="required")),
            Tool(desk.ask),
        ],
        toolsets=[ExternalToolset([RUN_SHELL], id="shell")],
    )


RUN_SHELL = ToolDefinition(
    name="run_shell",
    description="Run a command on the client's machine.",
    parameters_json_schema={
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
    },
)


@dataclass(frozen=True)
class _Desk:
    """The tools of the desk agent."""

    executed: list[str]

    def note(self, text: str) -> str:
        """Write a note."""
        return self._done(f"note({text})")

    def delete_file(self, path: str) -> str:
        """Delete a file."""
        return self._done(f"delete_file({path})")

    def move_file(self, source: str, target: str) -> str:
        """Move a file."""
        return self._done(f"move_file({source}, {target})")

    def send_email(self, subject: str, to_address: str, body: str) -> str:
        """Send an email.

        Args:
            subject: The subject.
            to_address: The address to send to.
            body: The body.
        """
        return self._done(f"send_email({subject}, {to_address}, {body})")

    def book(self, day: str, seats: int, *, quiet: bool = False) -> str:
        """Book a table."""
        return self._done(f"book({day}, {seats!r}, {quiet!r})")

    def deploy(self, env: str) -> str:
        """Deploy."""
        return self._done(f"deploy({env})")

    def ask(self, question: str) -> str:
        """Ask the user."""
        del question
        raise CallDeferred(kind="question")

    def _done(self, call: str) -> str:
        self.executed.append(call)
        return f"did {call}"


async def _follow_plan(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Piece]:
    del info
    steps, after = _newest_plan(messages)
    answered = sum(isinstance(message, ModelResponse) for message in after)
    if answered < len(steps):
        yield {index: DeltaToolCall(name, json.dumps(args)) for index, (name, args) in enumerate(steps[answered])}
        return
    for piece in ("Done.", *(f" {words}" for words in _said(after))):
        yield piece


def _newest_plan(messages: list[ModelMessage]) -> tuple[Plan, list[ModelMessage]]:
    """Return the newest plan and what was said after it; with none, an empty plan and everything."""
    for index in range(len(messages) - 1, -1, -1):
        for part in messages[index].parts:
            if isinstance(part, UserPromptPart):
                text = _words(part)[0]
                if text.startswith("[["):
                    return json.loads(text), messages[index + 1 :]
    return [], messages


def _said(messages: list[ModelMessage]) -> list[str]:
    said: list[str] = []
    for part in (part for message in messages if isinstance(message, ModelRequest) for part in message.parts):
        if isinstance(part, UserPromptPart):
            said.append(f"The user said {_words(part)}.")
        elif getattr(part, "tool_call_id", None):
            said.append(f"{getattr(part, 'tool_name', None)}: {getattr(part, 'content', None)}.")
    return said


def _words(part: UserPromptPart) -> list[str]:
    """Return the user's words, and for each picture its type and size."""
    pieces = [part.content] if isinstance(part.content, str) else part.content
    return [
        f"{piece.media_type} of {len(piece.data)} bytes" if isinstance(piece, BinaryContent) else str(piece)
        for piece in pieces
    ]


def parts_of(messages: Sequence[ModelMessage], *kinds: type[Any]) -> list[Any]:
    """Return all parts of these kinds in the messages, in order."""
    return [part for message in messages for part in message.parts if isinstance(part, kinds)]
