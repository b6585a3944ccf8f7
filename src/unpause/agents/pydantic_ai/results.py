"""Records what tools return, and restores it: the model gets exactly what the record holds."""

from __future__ import annotations

import asyncio
from collections import UserString
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import ConfigDict, TypeAdapter
from pydantic_ai.exceptions import ModelRetry, ToolFailed
from pydantic_ai.messages import ToolReturn
from pydantic_core import to_json

from unpause.agents.containment import is_stop, write
from unpause.agents.driver import CallResult
from unpause.agents.pydantic_ai.iterators import too_large
from unpause.domain.runs import UNPROCESSED, Outcome
from unpause.domain.storable import DEEPEST, is_longer, is_nested_deeper, replace_unstorable

if TYPE_CHECKING:
    from unpause.domain.runs import ToolCall

_log = structlog.get_logger(__name__)

_RETURN = TypeAdapter(ToolReturn[Any])
# Bytes as Pydantic AI itself sends them.
_ANYTHING = TypeAdapter(Any, config=ConfigDict(ser_json_bytes="base64"))

# Encoding more than this takes long enough for other runs to notice.
_LARGE = 65_536
_TOO_DEEP = f"The tool has run, but its result was not kept: it is nested in more than {DEEPEST} levels."


async def record_of(returned: object, max_bytes: int) -> CallResult:
    """Return the record of any value that a tool returned.

    The call has failed only where its result is too large or too deep to be kept. One that cannot be read is text.
    """
    try:
        if is_longer(_contents(returned), _LARGE):
            return await asyncio.to_thread(_record, returned, max_bytes)
        return _record(returned, max_bytes)
    except BaseException as error:  # the boundary around an author's object, whose own code is run to read it
        if is_stop(error):
            raise
        _log.warning("result cannot be read: kept as text", type=type(returned).__name__, error=type(error).__name__)
        return _record(_text_of(returned), max_bytes)


def restore(result: CallResult) -> Any:  # noqa: ANN401 - whatever the tool returned, as the record has it
    """Return what the tool returned when it ran, or raise what it raised."""
    match result.outcome:
        case Outcome.RETRIED:
            raise ModelRetry(result.text)
        case Outcome.SUCCESS:
            returned = _read(result.value)
            is_plain = returned.content is None and returned.metadata is None and returned.tools is None
            return returned.return_value if is_plain else returned
        case _:
            raise ToolFailed(result.text)


def result_of(call: ToolCall) -> CallResult:
    """Return how a finished call ended: for one that is not processed yet, what its tool gave."""
    kept = call.result["unprocessed"] if call.is_unprocessed else {"value": call.result, "text": call.result_text}
    return CallResult(call.outcome or Outcome.FAILED, kept["value"], kept["text"] or "")


def unprocessed(result: CallResult) -> CallResult:
    """Return the record of what a tool gave while the agent's own hooks are still to see it: nobody else does."""
    value = {"kind": UNPROCESSED, "unprocessed": {"value": result.value, "text": result.text}}
    return CallResult(result.outcome, value, "", is_final=False)


def recorded_end(call: ToolCall) -> ToolReturn[Any] | ModelRetry | ToolFailed:
    """Return how a finished call ended: with the tool's own result, or a client's as text, or with what it raised."""
    match call.outcome:
        case Outcome.SUCCESS:
            return _read(call.result)
        case Outcome.RETRIED:
            return ModelRetry(call.result_text or "")
        case _:
            return ToolFailed(call.result_text or "")


def storable_text(text: str, max_bytes: int) -> str:
    """Return a tool's error message as it can be stored, at most ``max_bytes`` characters of it."""
    storable = replace_unstorable(text)
    return storable if len(storable) <= max_bytes else storable[:max_bytes] + "…"


def json_text(value: object) -> str:
    """Return the JSON text of anything; what is no JSON in it is text."""
    try:
        return to_json(value, fallback=_plain).decode()
    except Exception:  # noqa: BLE001 - the boundary around an author's object, whose own code writes it
        return to_json(replace_unstorable(_dump(value)["return_value"])).decode()


def _record(returned: object, max_bytes: int) -> CallResult:
    contents = _contents(returned)
    if is_longer(contents, 2 * max_bytes):
        if not _is_circular(contents):
            return _failed(too_large(max_bytes))
        returned = _text_of(returned)
    elif is_nested_deeper(contents, DEEPEST + 10):
        return _failed(_TOO_DEEP)
    value = replace_unstorable(_dump(returned))
    # The levels of the wrapper do not count.
    if is_nested_deeper(value["return_value"]) or is_nested_deeper(value, DEEPEST + 10):
        return _failed(_TOO_DEEP)
    if len(to_json(value)) > max_bytes:
        return _failed(too_large(max_bytes))
    shown = value["return_value"]
    return CallResult(Outcome.SUCCESS, value, shown if isinstance(shown, str) else to_json(shown).decode())


def _failed(text: str) -> CallResult:
    return CallResult(Outcome.FAILED, text, text)


def _is_circular(value: object) -> bool:
    """Whether a list or dict holds itself, however far within."""
    within, done = set[int](), set[int]()
    stack = [(value, False)]
    while stack:
        item, is_left = stack.pop()
        if is_left:
            within.discard(id(item))
            done.add(id(item))
        elif id(item) in within:
            return True
        elif isinstance(item, dict | list | tuple) and id(item) not in done:
            within.add(id(item))
            stack.append((item, True))
            stack.extend((inner, False) for inner in (item.values() if isinstance(item, dict) else item))
    return False


def _contents(returned: object) -> object:
    if isinstance(returned, ToolReturn):
        return (returned.return_value, returned.content, returned.metadata)
    return returned


def _dump(returned: object) -> dict[str, Any]:
    """Return the JSON of a tool's result, in which whatever is no JSON is text: the tool has run, so it succeeded."""
    whole = returned if isinstance(returned, ToolReturn) else ToolReturn(returned)
    foreign: set[str] = set()

    def plain(value: object) -> object:
        shown = _plain(value)
        if isinstance(shown, str):
            foreign.add(type(value).__name__)
        return shown

    for candidate in (
        whole,
        ToolReturn(whole.return_value, content=whole.content, metadata=_text_of(whole.metadata), tools=whole.tools),
        ToolReturn(_text_of(whole.return_value), metadata=_text_of(whole.metadata)),
    ):
        try:
            value: dict[str, Any] = _ANYTHING.dump_python(candidate, mode="json", by_alias=True, fallback=plain)
            _RETURN.validate_python(value)
        except Exception:  # noqa: BLE001, S112 - the boundary around an author's object, whose own code writes it
            continue
        if foreign:
            hint = "return JSON, a dataclass or a Pydantic model"
            _log.warning("result has no JSON form: kept as text", types=", ".join(sorted(foreign)), hint=hint)
        return value
    return {"return_value": None, "kind": "tool-return"}


def _plain(value: object) -> object:
    """Return a JSON value for an object that Pydantic cannot serialize."""
    match value:
        case memoryview():
            return value.tobytes()
        case UserString():
            return str(value)
        case Mapping():
            return dict(value)
        case Iterator() | Sequence() | AbstractSet():
            return list(value)
        case _:
            return _text_of(value)


def _text_of(value: object) -> str | None:
    if value is None:
        return None
    text = write(value)
    return f"<{type(value).__name__}>" if text is None else text


def _read(value: object) -> ToolReturn[Any]:
    if isinstance(value, dict) and value.get("kind") == "tool-return":
        returned: ToolReturn[Any] = _RETURN.validate_python(value)
        return returned
    return ToolReturn(value)
