"""Large results of tools are stored once, with their calls; everywhere else a mark stands for them until it is read.

A result is part of its call's row, of the events about the call, of each later pause's, and of the message that took it
to the model. A mark stands beside the call's id, where no tool can write: in the objects of a message's ``parts``, in
the entries of a transcript, and in the calls of an event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import to_json
from sqlalchemy import bindparam, select, tuple_

from unpause.domain.storable import is_longer
from unpause.store.tables import tool_calls

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy.engine import Connection

    from unpause.domain.runs import ToolCall

MARK = "$kept"
# In JSON, a little more than the mark and the query to fill it in are worth.
_LARGE = 4096

_RESULTS = select(tool_calls.c.run_key, tool_calls.c.tool_call_id, tool_calls.c.result, tool_calls.c.result_text).where(
    tuple_(tool_calls.c.run_key, tool_calls.c.tool_call_id).in_(bindparam("keys", expanding=True))
)


def is_large(call: ToolCall) -> bool:
    """Whether the call's result is kept once."""
    return len(call.result_text or "") > _LARGE or is_longer(call.result, _LARGE)


def text_of(result: object) -> str:
    """Return what the model reads of a result, unless the call has a text of its own."""
    shown = _shown(result)
    return shown if isinstance(shown, str) else to_json(shown).decode()


def kept_text(call: ToolCall) -> str | None:
    """Return the text to be stored with a call: none where it is large, and in the result anyway."""
    text = call.result_text
    if text is None or len(text) <= _LARGE or call.result is None:
        return text
    return None if text_of(call.result) == text else text


def fold_payload(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an event's payload as it is stored: the calls in it without large results."""
    folded: dict[str, Any] = {}
    if "call" in payload:
        call = _fold_call(payload["call"])
        if call is not payload["call"]:
            folded["call"] = call
            if payload.get("error") == payload["call"]["result_text"] and "error" in payload:
                folded["error"] = None
                call[MARK]["error"] = "text"
    elif "calls" in payload:
        folded["calls"] = [_fold_call(call) for call in payload["calls"]]
    return {**payload, **folded} if folded else payload


def fold_message(
    native: Any,  # noqa: ANN401 - a driver's own JSON
    entries: list[dict[str, Any]],
    large: Mapping[str, ToolCall],
) -> tuple[Any, list[dict[str, Any]]]:
    """Return a message as it is stored: without the results of those ``large`` calls, which are kept with them."""
    if not large:
        return native, entries
    if isinstance(native, dict) and isinstance(native.get("parts"), list):
        native = {**native, "parts": [_fold_object(part, large) for part in native["parts"]]}
    return native, [_fold_object(entry, large) for entry in entries]


def unfold(connection: Connection, found: Sequence[tuple[int, Any]]) -> None:
    """Fill in what is kept elsewhere, in place: ``found`` are JSON values as they were read, with their runs."""
    marked = [(run_key, item, outer) for run_key, value in found for item, outer in _marked(value)]
    if not marked:
        return
    keys = sorted({(run_key, item["tool_call_id"]) for run_key, item, _ in marked})
    results = {
        (row.run_key, row.tool_call_id): (row.result, row.result_text)
        for row in connection.execute(_RESULTS, {"keys": keys})
    }
    for run_key, item, outer in marked:
        result, text = results.get((run_key, item["tool_call_id"]), (None, None))
        forms = {
            "result": result,
            "shown": _shown(result),
            "metadata": result.get("metadata") if isinstance(result, dict) else None,
            "text": text_of(result) if text is None else text,
        }
        for key, form in item.pop(MARK).items():
            (outer if key == "error" else item)[key] = forms[form]


def _marked(value: object) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield the objects of a message, of a transcript or of a payload that have a mark, with what is around them."""
    outer: dict[str, Any] = value if isinstance(value, dict) else {}
    items: Iterable[Any] = value if isinstance(value, list) else ()
    for key in ("parts", "calls"):
        if isinstance(outer.get(key), list):
            items = outer[key]
    if isinstance(outer.get("call"), dict):
        items = (outer["call"],)
    yield from ((item, outer) for item in items if isinstance(item, dict) and isinstance(item.get(MARK), dict))


def _fold_call(call: dict[str, Any]) -> dict[str, Any]:
    result, text = call.get("result"), call.get("result_text")
    if len(text or "") <= _LARGE and not is_longer(result, _LARGE):
        return call
    kept = {"result": "result", **({} if text is None else {"result_text": "text"})}
    return {**call, "result": None, "result_text": None, MARK: kept}


def _fold_object(item: Any, large: Mapping[str, ToolCall]) -> Any:  # noqa: ANN401 - whatever stands there
    call = large.get(item.get("tool_call_id") or "") if isinstance(item, dict) else None
    if call is None:
        return item
    forms = {"text": call.result_text, "shown": _shown(call.result)}
    kept: dict[str, str] = {}
    content = item.get("content")
    for form, value in forms.items():
        if content is not None and content == value and type(content) is type(value):
            kept["content"] = form
            break
    metadata = item.get("metadata")
    if metadata is not None and isinstance(call.result, dict) and metadata == call.result.get("metadata"):
        kept["metadata"] = "metadata"
    return {**item, **dict.fromkeys(kept), MARK: kept} if kept else item


def _shown(result: object) -> object:
    if isinstance(result, dict) and result.get("kind") == "tool-return":
        return result.get("return_value")
    return result
