"""Reads a stream as agent-ui does: by its braces alone, not by its lines; and keeps the chat that it shows."""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass, field
from typing import Any


class ObjectReader:
    """Finds the JSON objects in the bytes of a stream; everything between them is passed over."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.rest = ""

    def feed(self, piece: bytes) -> list[dict[str, Any]]:
        """Return the objects that are complete with this piece, in order.

        An opening brace that is never closed, in a comment say, hides all that comes after it.
        """
        self.rest += self._decoder.decode(piece)
        found: list[dict[str, Any]] = []
        while (start := self.rest.find("{")) >= 0 and (end := _end_of_object(self.rest, start)) is not None:
            found.append(_as_event(json.loads(self.rest[start:end])))
            self.rest = self.rest[end:]
        return found


def _end_of_object(text: str, start: int) -> int | None:
    """Return where the object that starts there ends; None where its end has not come yet."""
    depth = 0
    in_string = escaped = False
    for place in range(start, len(text)):
        character = text[place]
        if escaped:
            escaped = False
        elif in_string and character == "\\":
            escaped = True
        elif character == '"':
            in_string = not in_string
        elif not in_string:
            depth += {"{": 1, "}": -1}.get(character, 0)
            if depth == 0:
                return place + 1
    return None


def _as_event(found: dict[str, Any]) -> dict[str, Any]:
    """Return the object as an event: one with a top-level `data` is taken for an envelope around the event."""
    if "data" not in found:
        return found
    inside = found["data"]
    return {"event": found.get("event"), **(json.loads(inside) if isinstance(inside, str) else inside)}


@dataclass(slots=True)
class Chat:
    """What the user sees of one run while it is streamed."""

    session_id: str | None = None
    streamed: str = ""
    content: str = ""
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    error: str | None = None
    _last: str = ""

    def show(self, event: dict[str, Any]) -> None:
        """Take one event in; raises KeyError for one without its name, which the original cannot show."""
        match event["event"]:
            case "RunStarted":
                self.session_id = event["session_id"]
            case "RunContent":
                # A piece that repeats the one before loses that part; the last event mends it.
                piece = event["content"].replace(self._last, "", 1) if self._last else event["content"]
                self._last = event["content"]
                self.streamed += piece
                self.content += piece
            case "ToolCallStarted" | "ToolCallCompleted":
                tool = event["tool"]
                self.tools[tool["tool_call_id"]] = {**self.tools.get(tool["tool_call_id"], {}), **tool}
            case "RunCompleted":
                self.content = event["content"]
            case "RunError":
                self.error = event["content"]
            case _:
                pass


def chat_of(stream: bytes, size: int) -> Chat:
    """Return the chat that this stream makes when it comes in pieces of so many bytes."""
    reader, chat = ObjectReader(), Chat()
    for start in range(0, len(stream), size):
        for event in reader.feed(stream[start : start + size]):
            chat.show(event)
    assert "{" not in reader.rest
    return chat
