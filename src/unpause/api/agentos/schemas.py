"""The shapes of AgentOS's requests, and the errors it gives for those that do not fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from unpause.api.bodies import parse_json
from unpause.api.tools import ToolExecution, answers_in
from unpause.errors import InvalidInput

if TYPE_CHECKING:
    from unpause.domain.requirements import ToolAnswer


_TOOLS = TypeAdapter(list[ToolExecution])


def parse_tools(text: str) -> object:
    """Return the JSON in the form field ``tools``; None for an empty one. Raises InvalidInput (agno.md 12)."""
    if not text.strip():
        return None
    try:
        return parse_json(text) or None
    except ValueError:
        raise InvalidInput("Invalid JSON in tools field") from None


def parse_object(field: str, text: str | None) -> dict[str, Any] | None:
    """Return the JSON object in a form field; None for an empty one. Raises InvalidInput."""
    if text is None or not text.strip():
        return None
    try:
        value = parse_json(text)
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
    return answers_in(tools)


def _misshapen(reason: str) -> InvalidInput:
    return InvalidInput(f"Invalid structure or content for tools: {reason}")
