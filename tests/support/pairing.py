"""Checks that each call in what a model was sent has exactly one return, before the model's next answer."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart, ToolReturnPart


def unpaired(messages: Sequence[ModelMessage]) -> list[str]:
    """Return the ids of calls without a return, of returns without a call, and of what came twice."""
    wrong: list[str] = []
    waiting: list[str] = []
    seen: set[str] = set()
    for message in messages:
        if isinstance(message, ModelResponse):
            wrong.extend(waiting)
            waiting = [part.tool_call_id for part in message.parts if isinstance(part, ToolCallPart)]
            wrong.extend(call for call in waiting if call in seen or waiting.count(call) > 1)
            seen.update(waiting)
            continue
        for part in message.parts:
            if isinstance(part, ToolReturnPart):
                if part.tool_call_id in waiting:
                    waiting.remove(part.tool_call_id)
                else:
                    wrong.append(part.tool_call_id)
    return [*wrong, *waiting]
