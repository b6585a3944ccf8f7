"""A model for tests of Pydantic AI agents: it answers what a test wrote down."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from pydantic_ai import ToolDefinition
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import (
    AgentInfo,
    DeltaThinkingCalls,
    DeltaThinkingPart,
    DeltaToolCall,
    DeltaToolCalls,
    FunctionModel,
)

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
        self.requests: list[list[ModelMessage]] = []
        self.infos: list[AgentInfo] = []
        self._turns = list(turns)
        self.model = FunctionModel(stream_function=self._stream, model_name="scripted-1")

    def add(self, *turns: Turn) -> None:
        """Add turns after those that are left."""
        self._turns.extend(turns)

    async def _stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Piece]:
        self.requests.append(list(messages))
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


RUN_SHELL = ToolDefinition(
    name="run_shell",
    description="Run a command on the client's machine.",
    parameters_json_schema={
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
    },
)


def parts_of(messages: Sequence[ModelMessage], *kinds: type[Any]) -> list[Any]:
    """Return all parts of these kinds in the messages, in order."""
    return [part for message in messages for part in message.parts if isinstance(part, kinds)]
