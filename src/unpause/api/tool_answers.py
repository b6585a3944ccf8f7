"""Reads a client's answers from the tool executions that it sends back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from unpause.domain.requirements import ToolAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable

# Far more than any real request has; the setting `max_tools` is the limit.
MAX_TOOLS: Final = 1000
_MAX_FIELDS = 1000
_LONGEST_NAME = 1000
_LONGEST_NOTE = 200_000


class ToolInputField(BaseModel):
    """One field of a form that the user filled in."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(max_length=_LONGEST_NAME)
    value: Any = None


class ToolExecutionInput(BaseModel):
    """A tool execution as a client sends it back; keys that are no part of an answer are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    tool_call_id: str = Field(min_length=1, max_length=_LONGEST_NAME)
    tool_name: str | None = Field(default=None, max_length=_LONGEST_NAME)
    tool_args: dict[str, Any] | None = None
    confirmed: bool | None = None
    confirmation_note: str | None = Field(default=None, max_length=_LONGEST_NOTE)
    result: Any = None
    requires_user_input: bool | None = None
    user_input_schema: Annotated[list[ToolInputField], Field(max_length=_MAX_FIELDS, fail_fast=True)] | None = None


# Fails at the first invalid item: otherwise there would be as many errors as items.
ToolExecutions = Annotated[list[ToolExecutionInput], Field(max_length=MAX_TOOLS, fail_fast=True)]


def answers_in(tools: Iterable[ToolExecutionInput]) -> tuple[ToolAnswer, ...]:
    """Return the client's answer about each call."""
    return tuple(_answer(tool) for tool in tools)


def _answer(tool: ToolExecutionInput) -> ToolAnswer:
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
