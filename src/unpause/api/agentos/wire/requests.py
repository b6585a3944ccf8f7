"""Reads AgentOS's form fields, with its errors for malformed ones."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from unpause.api.json import JsonTooLarge, RepeatedKey, read_json
from unpause.api.tool_answers import ToolExecutions, answers_in
from unpause.domain.output_schema import read_output_schema
from unpause.errors import InvalidInput, InvalidOutputSchema
from unpause.services.quotas import too_many_tools

if TYPE_CHECKING:
    from unpause.api.tool_answers import ToolExecutionInput
    from unpause.domain.output_schema import OutputSchema
    from unpause.domain.requirements import ToolAnswer


_TOOLS: TypeAdapter[list[ToolExecutionInput]] = TypeAdapter(ToolExecutions)
# White space does not count towards the limit of stored JSON, but what is read has a limit.
_LONGEST_AS_WRITTEN = 4
_LONGEST_OUTPUT_SCHEMA = 200_000


async def parse_tools(text: str) -> object:
    """Return the JSON in the form field ``tools``; None for an empty one. Raises InvalidInput."""
    return await parse_field("tools", text) or None


async def parse_field(field: str, text: str | None) -> Any:  # noqa: ANN401 - whatever was sent
    """Return the JSON in a form field; None for an empty one. Raises InvalidInput."""
    if text is None or not text.strip():
        return None
    try:
        return await read_json(text)
    except (JsonTooLarge, RepeatedKey) as error:
        raise InvalidInput(f"{field} has {error}") from None
    except ValueError:
        raise InvalidInput(f"Invalid JSON in {field} field") from None


async def parse_object(field: str, text: str | None, limit: int) -> dict[str, Any] | None:
    """Return the JSON object in a form field; None for an empty one.

    Raises InvalidInput, also for one that is much longer than ``limit`` characters because of white space.
    """
    if text is not None and len(text) > _LONGEST_AS_WRITTEN * limit:
        raise InvalidInput(f"{field} is longer than {limit} characters of JSON")
    value = await parse_field(field, text)
    if value is not None and not isinstance(value, dict):
        raise InvalidInput(f"{field} must be a JSON object")
    return value


async def parse_output_schema(text: str | None, *, as_response_format: bool) -> OutputSchema | None:
    """Return the schema in the form field ``output_schema``; None for an empty one. Raises InvalidOutputSchema."""
    if text is None or not text.strip():
        return None
    if len(text) > _LONGEST_OUTPUT_SCHEMA:
        raise InvalidOutputSchema("it is too large")
    try:
        sent = await read_json(text)
    except ValueError:
        sent = None
    return await asyncio.to_thread(read_output_schema, sent, as_response_format=as_response_format)


def read_tools(parsed: object, limit: int) -> tuple[ToolAnswer, ...]:
    """Return the client's answers; raise InvalidInput with AgentOS's texts.

    More than ``most`` items are refused before any item is examined.
    """
    if parsed is None:
        return ()
    if isinstance(parsed, str | dict):
        raise _malformed("'str' object has no attribute 'get'")
    if not isinstance(parsed, list):
        raise _malformed(f"'{type(parsed).__name__}' object is not iterable")
    if len(parsed) > limit:
        raise too_many_tools(len(parsed), limit)
    for item in parsed:
        if not isinstance(item, dict):
            raise _malformed(f"'{type(item).__name__}' object has no attribute 'get'")
    try:
        tools = _TOOLS.validate_python(parsed)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise _malformed(f"{place}: {first['msg']}") from None
    return answers_in(tools)


def _malformed(reason: str) -> InvalidInput:
    return InvalidInput(f"Invalid structure or content for tools: {reason}")
