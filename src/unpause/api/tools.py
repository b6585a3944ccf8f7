"""Reads tool executions as clients echo them: what a client says about each call of a paused run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from unpause.domain.requirements import ToolAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable


class ToolInputField(BaseModel):
    """One field of a form that the user filled in."""

    model_config = ConfigDict(extra="ignore")

    name: str
    value: Any = None


class ToolExecution(BaseModel):
    """A tool execution as a client echoes it; only what can be an answer is read, everything else is ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    tool_call_id: str = Field(min_length=1)
    tool_name: str | None = None
    tool_args: dict[str, Any] | None = None
    confirmed: bool | None = None
    confirmation_note: str | None = None
    result: Any = None
    requires_user_input: bool | None = None
    user_input_schema: list[ToolInputField] | None = None


def answers_in(tools: Iterable[ToolExecution]) -> tuple[ToolAnswer, ...]:
    """Return what the client says about each call."""
    return tuple(_answer(tool) for tool in tools)


def _answer(tool: ToolExecution) -> ToolAnswer:
    result = tool.result
    values = None
    if tool.user_input_schema is not None:
        values = {field.name: field.value for field in tool.user_input_schema}
    return ToolAnswer(
        tool_call_id=tool.tool_call_id,
        tool_name=tool.tool_name,
        tool_args=tool.tool_args,
        confirmed=tool.confirmed,
        note=tool.confirmation_note,
        values=values or None,
        result=result if result is None or isinstance(result, str) else to_json(result).decode(),
    )
