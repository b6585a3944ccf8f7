"""A model that makes the calls of a script, so that a test of an agent needs no model, no key and no luck."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field, is_dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from pydantic import BaseModel
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import DeltaToolCall, DeltaToolCalls, FunctionModel
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from unpause.testing.errors import WrongUse, near

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pydantic_ai.messages import ModelMessage
    from pydantic_ai.models.function import AgentInfo
    from pydantic_ai.tools import ToolDefinition

_LAST: Final = "done"


@dataclass(frozen=True, slots=True)
class _Call:
    tool: str
    arguments: dict[str, object]


@dataclass(frozen=True, slots=True)
class _Output:
    value: object


_Turn: TypeAlias = "tuple[_Call, ...] | str | _Output"


@dataclass(frozen=True, slots=True)
class Script:
    """The answers of a model, one after the other, in each run; see ``script``. Methods return a longer script."""

    turns: tuple[_Turn, ...] = ()

    def then(self, tool: str, /, **arguments: object) -> Script:
        """Call this tool in the next answer."""
        return Script((*self.turns, (_call(tool, arguments),)))

    def beside(self, tool: str, /, **arguments: object) -> Script:
        """Call this tool in the same answer as the call before; raise WrongUse where there is none."""
        *before, last = self.turns or ("",)
        if not isinstance(last, tuple):
            raise WrongUse(f"beside({tool!r}) needs a call before it in the script")
        return Script((*before, (*last, _call(tool, arguments))))

    def says(self, text: str) -> Script:
        """Answer with text, which ends the run of an agent whose output is text."""
        return Script((*self.turns, text))

    def returns(self, value: object = None, /, **fields: object) -> Script:
        """Answer with an output that is no text: an object of the agent's output type, or its fields."""
        return Script((*self.turns, _Output(fields if value is None else value)))


def script(tool: str | None = None, /, **arguments: object) -> Script:
    """Return a script whose first answer calls the tool with these arguments; without a tool it is empty.

        script("restart", service="nginx")
        script("look", host="a").then("restart", service="nginx").says("Restarted.")
        script("look", host="a").beside("look", host="b")
        script().says("Nothing to do.")

    After its last answer it answers ``done``. Each run begins the script anew and goes on with it after a pause, a
    restart and a crash. A call of a tool that the agent does not have, and arguments that the tool refuses, fail the
    test with ``WrongUse``.
    """
    return Script() if tool is None else Script().then(tool, **arguments)


def _call(tool: str, arguments: dict[str, object]) -> _Call:
    try:
        to_json(arguments)
    except PydanticSerializationError as error:
        raise WrongUse(f"the script calls {tool!r} with arguments that are no JSON: {error}") from None
    return _Call(tool, arguments)


@dataclass(slots=True)
class ScriptPosition:
    """How far a run is; ``problem`` is what was wrong with the script."""

    turn: int = 0
    problem: str | None = None


current_position: ContextVar[ScriptPosition] = ContextVar("current_position")


@dataclass(slots=True)
class ScriptedModel:
    """Makes a Pydantic AI model of a script."""

    script: Script
    model: FunctionModel = field(init=False)

    def __post_init__(self) -> None:
        self.model = FunctionModel(self._answer, stream_function=self._stream, model_name="script")

    async def _answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        turn = self._next(messages, info)
        if isinstance(turn, str):
            return ModelResponse([TextPart(turn)])
        return ModelResponse([ToolCallPart(call.tool, to_json(call.arguments).decode()) for call in turn])

    async def _stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
        turn = self._next(messages, info)
        if isinstance(turn, str):
            yield turn
            return
        for number, call in enumerate(turn):
            yield {number: DeltaToolCall(call.tool, to_json(call.arguments).decode())}

    def _next(self, messages: list[ModelMessage], info: AgentInfo) -> tuple[_Call, ...] | str:
        """Return the next answer: text, or calls that the agent allows."""
        position = current_position.get(None) or ScriptPosition()
        try:
            _refuse_invalid(messages)
            turns = self.script.turns
            turn = turns[position.turn] if position.turn < len(turns) else _LAST
            position.turn += 1
            found = _as_calls(turn, info)
        except WrongUse as error:
            position.problem = str(error)
            raise
        return found


def _as_calls(turn: _Turn, info: AgentInfo) -> tuple[_Call, ...] | str:
    match turn:
        case _Output():
            return _output(turn.value, info)
        case str():
            if not info.allow_text_output:
                expected = ", ".join(tool.name for tool in info.output_tools)
                raise WrongUse(
                    f"the script answers with the text {turn!r}, but the agent's output is no text ({expected}): "
                    "end the script with .returns(…)"
                )
            return turn
        case _:
            names = [tool.name for tool in info.function_tools]
            for call in turn:
                if call.tool not in names:
                    raise WrongUse(f"the script calls {call.tool!r}, which the agent has not: {near(call.tool, names)}")
            return turn


def _output(value: object, info: AgentInfo) -> tuple[_Call, ...] | str:
    plain = to_jsonable_python(value)
    if not info.output_tools:
        return plain if isinstance(plain, str) else to_json(plain).decode()
    tool = info.output_tools[0]
    if isinstance(value, BaseModel) or is_dataclass(value):
        tool = next((each for each in info.output_tools if each.name.endswith(type(value).__name__)), tool)
    return (_Call(tool.name, _wrapped(plain, tool)),)


def _wrapped(plain: object, tool: ToolDefinition) -> dict[str, object]:
    """Return the arguments of the call that carries an output."""
    key = tool.outer_typed_dict_key
    if key is not None and not (isinstance(plain, dict) and plain.keys() == {key}):
        return {key: plain}
    if not isinstance(plain, dict):
        raise WrongUse(f"the script returns {plain!r}, but the agent's output {tool.name} has fields")
    return plain


def _refuse_invalid(messages: list[ModelMessage]) -> None:
    """Raise WrongUse where the tool has refused the arguments of the script's last answer."""
    last = messages[-1] if messages else None
    for part in last.parts if isinstance(last, ModelRequest) else ():
        if isinstance(part, ToolReturnPart) and part.retry is not None and part.retry.cause == "validation_error":
            reasons = part.content if isinstance(part.content, list) else [part.content]
            text = "; ".join(map(_reason, reasons))
            raise WrongUse(f"the script calls {part.tool_name!r} with arguments that do not fit: {text}")


def _reason(found: object) -> str:
    if not isinstance(found, dict):
        return str(found)
    place = ".".join(map(str, found.get("loc", ())))
    return f"{place}: {found.get('msg')}" if place else str(found.get("msg"))
