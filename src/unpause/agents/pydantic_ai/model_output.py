"""Makes a model's output storable and the ids of its calls usable, before anything reads them."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic_ai.messages import (
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    SystemPromptPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_core import from_json, to_json

from unpause.domain.storable import DEEPEST, is_nested_deeper, replace_unstorable, replace_unstorable_numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pydantic_ai.messages import ModelMessage, ModelRequestPart

    from unpause.clock import Ids

TOO_DEEP = f"The arguments of this call are nested in more than {DEEPEST} levels, and it was not made."
# The placeholder for such arguments: no object, so that nothing can be called with it.
NOT_KEPT = '"arguments that were nested too deeply"'

# Some providers refuse longer ids.
_LONGEST_ID = 64
_USABLE_ID = re.compile(rf"[!-~]{{1,{_LONGEST_ID}}}")
_UNIQUE_CHARACTERS = 8
# Where there is none of these in the text of arguments, nothing in them has to be replaced.
_SUSPECT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])|NaN|Infinity|[0-9][eE]\+?[0-9]{3}|[0-9]{300}")


class TextJoiner:
    """Returns the pieces of a text as they can be stored: a character that is cut in two comes with its second half."""

    def __init__(self) -> None:
        self._half = ""

    def add(self, piece: str) -> str:
        """Return the text that is complete with this piece."""
        text = self._half + piece
        self._half = ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return replace_unstorable(text)

    def finish(self) -> str:
        """Return the rest after the last piece."""
        half, self._half = self._half, ""
        return replace_unstorable(half)


def clean_response(response: ModelResponse) -> None:
    """Make all of a model's answer storable, in place; of arguments that are nested too deeply nothing is kept."""
    for part in response.parts:
        for name in ("content", "tool_name", "args"):
            value = getattr(part, name, None)
            if isinstance(value, str | dict | list) and (storable := replace_unstorable(value)) is not value:
                setattr(part, name, storable)
        if isinstance(part, ToolCallPart) and not _clean_arguments(part):
            part.args = NOT_KEPT


def clean_request(request: ModelRequest) -> None:
    """Make what the agent sends to the model storable; its parts are replaced, as others may hold them."""
    if request.instructions is not None:
        request.instructions = replace_unstorable(request.instructions)
    parts = [_clean_part(part) for part in request.parts]
    if any(new is not old for new, old in zip(parts, request.parts, strict=True)):
        request.parts = parts


def _clean_part(part: ModelRequestPart) -> ModelRequestPart:
    if not isinstance(part, SystemPromptPart | UserPromptPart | ToolReturnPart | RetryPromptPart):
        return part
    content: Any = part.content
    storable = replace_unstorable(content)
    return part if storable is content else replace(part, content=storable)


def _clean_arguments(call: ToolCallPart) -> bool:
    """Make a call's arguments storable; return False where they are nested too deeply to be kept."""
    if not call.args or (isinstance(call.args, str) and not _is_suspect(call.args)):
        return True
    try:
        arguments = _read(call.args) if isinstance(call.args, str) else call.args
    except RecursionError:
        return False
    except ValueError:
        # No JSON: the model gets an error for it.
        return True
    if is_nested_deeper(arguments):
        return False
    storable = replace_unstorable_numbers(replace_unstorable(arguments))
    if storable is not arguments:
        call.args = to_json(storable).decode() if isinstance(call.args, str) else storable
    return True


def _is_suspect(text: str) -> bool:
    return text.count("[") + text.count("{") > DEEPEST or _SUSPECT.search(text) is not None


def _read(text: str) -> Any:  # noqa: ANN401 - whatever the model sent
    """Return the JSON, with halves of surrogate pairs where they are: a model may escape what it cuts in two."""
    try:
        return from_json(text)
    except ValueError:
        return json.loads(text)


def make_ids_unique(response: ModelResponse, seen: set[str], ids: Ids) -> None:
    """Replace the ids of calls that are in ``seen`` or that not every provider takes back; add all of them to it.

    Some local model servers count from zero in every answer.
    """
    for part in response.parts:
        if isinstance(part, ToolCallPart):
            if not _USABLE_ID.fullmatch(part.tool_call_id):
                _rename(part, f"call_{ids.fresh()}")
            elif part.tool_call_id in seen:
                stem = part.tool_call_id[: _LONGEST_ID - _UNIQUE_CHARACTERS - 1]
                _rename(part, f"{stem}-{ids.fresh()[:_UNIQUE_CHARACTERS]}")
            while part.tool_call_id in seen:
                _rename(part, f"call_{ids.fresh()}")
            seen.add(part.tool_call_id)


def _rename(part: ToolCallPart, call_id: str) -> None:
    part.tool_call_id = call_id
    # The provider's own copy of the call has the old id.
    part.id = None


def call_ids(messages: Iterable[ModelMessage]) -> set[str]:
    """Return the ids of all calls in the messages."""
    return {
        part.tool_call_id
        for message in messages
        if isinstance(message, ModelResponse)
        for part in message.parts
        if isinstance(part, ToolCallPart)
    }


def make_history_ids_unique(history: Sequence[ModelMessage], taken: set[str]) -> None:
    """Give every call in earlier runs' messages an id of its own that is not one of ``taken``.

    Two runs that were executed at the same time may have made theirs without knowing of each other. The new ids are
    the same each time, so that providers find the messages in their caches.
    """
    seen, renamed = set(taken), dict[str, str]()
    for message in history:
        parts: list[Any] = []
        for part in message.parts:
            if isinstance(part, ToolCallPart):
                renamed.pop(part.tool_call_id, None)
                if part.tool_call_id in seen:
                    renamed[part.tool_call_id] = _numbered(part.tool_call_id, seen)
                seen.add(renamed.get(part.tool_call_id, part.tool_call_id))
            call_id = renamed.get(getattr(part, "tool_call_id", ""))
            parts.append(part if call_id is None else _with_id(part, call_id))
        if any(new is not old for new, old in zip(parts, message.parts, strict=True)):
            message.parts = parts


def _with_id(part: Any, call_id: str) -> Any:  # noqa: ANN401 - a part of any kind that belongs to a call
    return replace(part, tool_call_id=call_id)


def _numbered(call_id: str, seen: set[str]) -> str:
    number = 2
    while (candidate := f"{call_id[: _LONGEST_ID - 6]}-{number}") in seen:
        number += 1
    return candidate
