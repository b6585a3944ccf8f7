"""A conversation's messages as AG-UI's, for a client that has just opened it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ag_ui.core import AssistantMessage, FunctionCall, MessagesSnapshotEvent, ToolCall, ToolMessage, UserMessage
from pydantic_core import to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ag_ui.core import Message

    from unpause.domain.runs import RunView, TranscriptEntry


def snapshot_of(runs: Iterable[RunView]) -> MessagesSnapshotEvent:
    """Return the snapshot with all messages of these runs, oldest first, but for the agent's instructions."""
    entries = (entry for view in runs for message in view.messages for entry in message.entries)
    return MessagesSnapshotEvent(messages=[message for entry in entries for message in _message(entry)])


def _message(entry: TranscriptEntry) -> Iterator[Message]:
    text = entry.content or ""
    match entry.role:
        case "user":
            yield UserMessage(id=entry.id, content=text)
        case "assistant":
            calls = [
                ToolCall(id=call_id, function=FunctionCall(name=name, arguments=to_json(arguments).decode()))
                for call_id, name, arguments in entry.tool_calls
            ]
            yield AssistantMessage(id=entry.id, content=entry.content, tool_calls=calls or None)
        case "tool":
            error = text if entry.tool_call_error else None
            yield ToolMessage(id=entry.id, content=text, tool_call_id=entry.tool_call_id or "", error=error)
        case _:
            pass
