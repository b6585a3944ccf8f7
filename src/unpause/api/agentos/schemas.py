"""The shapes of AgentOS's requests, and the errors it gives for those that do not fit."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from unpause.domain.requirements import ToolAnswer
from unpause.errors import InvalidInput


class _InputField(BaseModel):
    """One field of a form that the user filled in."""

    model_config = ConfigDict(extra="ignore")

    name: str
    value: Any = None


class _ToolExecution(BaseModel):
    """A tool execution as a client echoes it; only what can be an answer is read, everything else is ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    tool_call_id: str = Field(min_length=1)
    tool_name: str | None = None
    tool_args: dict[str, Any] | None = None
    confirmed: bool | None = None
    confirmation_note: str | None = None
    result: Any = None
    requires_user_input: bool | None = None
    user_input_schema: list[_InputField] | None = None


_TOOLS = TypeAdapter(list[_ToolExecution])


def parse_tools(text: str) -> object:
    """Return the JSON in the form field ``tools``; None for an empty one. Raises InvalidInput (agno.md 12)."""
    if not text.strip():
        return None
    try:
        return from_json(text, allow_inf_nan=False) or None
    except ValueError:
        raise InvalidInput("Invalid JSON in tools field") from None


def parse_object(field: str, text: str | None) -> dict[str, Any] | None:
    """Return the JSON object in a form field; None for an empty one. Raises InvalidInput."""
    if text is None or not text.strip():
        return None
    try:
        value = from_json(text, allow_inf_nan=False)
    except ValueError:
        raise InvalidInput(f"Invalid JSON in {field} field") from None
    if value is not None and not isinstance(value, dict):
        raise InvalidInput(f"{field} must be a JSON object")
    return value


def read_tools(parsed: object) -> tuple[ToolAnswer, ...]:
    """Return what the client says about each call; raise InvalidInput with the texts of the original (agno.md 12)."""
    if parsed is None:
        return ()
    if isinstance(parsed, str | dict):
        raise _misshapen("'str' object has no attribute 'get'")
    if not isinstance(parsed, list):
        raise _misshapen(f"'{type(parsed).__name__}' object is not iterable")
    for item in parsed:
        if not isinstance(item, dict):
            raise _misshapen(f"'{type(item).__name__}' object has no attribute 'get'")
    try:
        tools = _TOOLS.validate_python(parsed)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise _misshapen(f"{place}: {first['msg']}") from None
    return tuple(_answer(tool) for tool in tools)


def _answer(tool: _ToolExecution) -> ToolAnswer:
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


def _misshapen(reason: str) -> InvalidInput:
    return InvalidInput(f"Invalid structure or content for tools: {reason}")
