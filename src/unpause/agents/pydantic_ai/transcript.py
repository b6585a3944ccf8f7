"""Pydantic AI's messages in neutral form, as clients are shown them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_ai.messages import (
    ModelRequest,
    ModelResponse,
    RetryPromptPart,
    SystemPromptPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from unpause.domain.runs import TranscriptEntry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from pydantic_ai.messages import ModelMessage, ModelRequestPart

    from unpause.clock import Ids


def entries_of(
    message: ModelMessage, arguments: Mapping[str, dict[str, Any]], ids: Ids, *, first: bool
) -> tuple[TranscriptEntry, ...]:
    """Return what clients are shown of one message; ``arguments`` are those of the calls by id.

    The agent's instructions are shown once, before the ``first`` message of a run.
    """
    if isinstance(message, ModelResponse):
        return (_assistant(message, ids),)
    entries: list[TranscriptEntry] = []
    if first and message.instructions:
        entries.append(TranscriptEntry(ids.fresh(), "system", message.instructions, _moment(message)))
    for part in message.parts:
        entry = _entry(part, arguments, ids, _moment(message))
        if entry is not None:
            entries.append(entry)
    return tuple(entries)


def _moment(message: ModelRequest) -> datetime:
    stamps = (getattr(part, "timestamp", None) for part in message.parts)
    moment = message.timestamp or next((stamp for stamp in stamps if stamp is not None), None)
    if moment is None:
        detail = "a model request without any time"
        raise ValueError(detail)
    return moment


def _assistant(message: ModelResponse, ids: Ids) -> TranscriptEntry:
    text = "".join(part.content for part in message.parts if isinstance(part, TextPart))
    made = (part for part in message.parts if isinstance(part, ToolCallPart))
    calls = tuple((part.tool_call_id, part.tool_name, part.args_as_dict()) for part in made)
    return TranscriptEntry(ids.fresh(), "assistant", text or None, message.timestamp, tool_calls=calls)


def _entry(
    part: ModelRequestPart, arguments: Mapping[str, dict[str, Any]], ids: Ids, moment: datetime
) -> TranscriptEntry | None:
    match part:
        case SystemPromptPart():
            return TranscriptEntry(ids.fresh(), "system", part.content, moment)
        case UserPromptPart():
            return TranscriptEntry(ids.fresh(), "user", _user_text(part), moment)
        case ToolReturnPart():
            return TranscriptEntry(
                ids.fresh(),
                "tool",
                part.model_response_str(wrap_if_error=False),
                moment,
                tool_call_id=part.tool_call_id,
                tool_name=part.tool_name,
                tool_args=arguments.get(part.tool_call_id, {}),
                tool_call_error=part.outcome != "success",
            )
        case RetryPromptPart():
            return TranscriptEntry(ids.fresh(), "user", part.model_response(), moment)
        case _:
            return None


def _user_text(part: UserPromptPart) -> str:
    if isinstance(part.content, str):
        return part.content
    return "\n".join(piece for piece in part.content if isinstance(piece, str))
