"""Reads AG-UI's run input: what of it is new, and which calls it brings results of."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import structlog
from ag_ui.core import (
    Context,
    DataSource,
    DocumentPart,
    ImagePart,
    Message,
    ResumeEntry,
    RunAgentInput,
    TextPart,
    Tool,
    ToolMessage,
    UrlSource,
    UserMessage,
)
from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError

from unpause.api.json import LARGE
from unpause.api.media.files import FILE_TYPES, checked_file
from unpause.api.media.images import decode_base64, split_data_uri
from unpause.domain.frontends import ContextItem, Frontend, FrontendTool
from unpause.domain.storable import is_longer
from unpause.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ag_ui.core import ContentPart

    from unpause.domain.runs import Image
    from unpause.settings import Settings

_log = structlog.get_logger(__name__)

_LONGEST_NAME = 255
# What the providers of models accept.
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
BETWEEN = "\n\n"
# What a model answers to, in a history: what users say after the last of these is new.
_ANSWERS = ("assistant", "tool")


@dataclass(frozen=True, slots=True)
class Prompt:
    """The user's new words, with pictures and files."""

    text: str
    images: tuple[Image, ...] = ()


class _Input(RunAgentInput):
    """A run input whose lists fail at the first invalid item: otherwise there would be as many errors as items."""

    messages: Annotated[list[Message], Field(fail_fast=True)]
    tools: Annotated[list[Tool], Field(fail_fast=True)] | None = None
    context: Annotated[list[Context], Field(fail_fast=True)] | None = None
    resume: Annotated[list[ResumeEntry], Field(fail_fast=True)] | None = None


async def read_input(body: object, settings: Settings) -> RunAgentInput:
    """Return the run input; raise RequestValidationError for an invalid one, InvalidInput for one over a limit."""
    sent = await asyncio.to_thread(_validate, body) if is_longer(body, LARGE) else _validate(body)
    for name, text in (("threadId", sent.thread_id), ("runId", sent.run_id)):
        if not text.strip() or len(text) > _LONGEST_NAME:
            raise InvalidInput(f"{name} must have 1 to {_LONGEST_NAME} characters")
    for name, items in (("resume", sent.resume), ("tools", sent.tools), ("context", sent.context)):
        if items is not None and len(items) > settings.max_tools:
            raise InvalidInput(f"{name} has {len(items)} items; {settings.max_tools} may be sent at a time")
    if sent.state is not None and not isinstance(sent.state, dict):
        raise InvalidInput("state must be an object")
    return sent


def _validate(body: object) -> RunAgentInput:
    try:
        return _Input.model_validate(body)
    except ValidationError as error:
        found = error.errors(include_url=False)
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in found]) from None


def frontend_of(sent: RunAgentInput) -> Frontend:
    """Return the tools and the context of the front end; raise InvalidInput for a tool that no model can be shown."""
    tools = []
    for tool in sent.tools or ():
        parameters = {} if tool.parameters is None else tool.parameters
        if _TOOL_NAME.fullmatch(tool.name) is None:
            raise InvalidInput(f"tools: {tool.name[:_LONGEST_NAME]!r} must have 1 to 64 letters, digits, _ and -")
        if not _describes_an_object(parameters):
            raise InvalidInput(f"tools: the parameters of {tool.name!r} must be the JSON schema of an object")
        tools.append(FrontendTool(tool.name, tool.description, parameters))
    if len({tool.name for tool in tools}) < len(tools):
        raise InvalidInput("tools: two of them have the same name")
    return Frontend(tuple(tools), tuple(ContextItem(item.description, item.value) for item in sent.context or ()))


def _describes_an_object(schema: object) -> bool:
    """Whether a model can be shown it as a tool's parameters: providers refuse others, and with them all requests."""
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        return False
    properties, required = schema.get("properties", {}), schema.get("required", [])
    is_named = isinstance(properties, dict) and all(isinstance(each, dict | bool) for each in properties.values())
    return is_named and isinstance(required, list) and all(isinstance(name, str) for name in required)


def list_new(messages: Sequence[Message]) -> list[UserMessage]:
    """Return what the user says after the model's last answer: all that is before it, the store knows better."""
    last = max((number for number, message in enumerate(messages) if message.role in _ANSWERS), default=-1)
    return [message for message in messages[last + 1 :] if isinstance(message, UserMessage)]


def without_known(new: Sequence[UserMessage], known: str | None) -> Sequence[UserMessage]:
    """Return those after the ones whose text is the prompt that is ``known``: a run without an answer has them too.

    The last one is new in any case: a client that sends it again wants another answer.
    """
    if known is None:
        return new
    texts = [text_of(message) for message in new[:-1]]
    first, length = 0, -len(BETWEEN)
    for count, text in enumerate(texts, 1):
        # Joined only where the lengths agree, which they do once: a request may have tens of thousands of messages.
        length += len(BETWEEN) + len(text)
        if text == known or (length == len(known) and BETWEEN.join(texts[:count]) == known):
            first = count
    return new[first:]


def results_in(messages: Sequence[Message]) -> dict[str, str]:
    """Return the results in messages of tools, by the id of the call: the newest of each."""
    return {message.tool_call_id: _result(message) for message in messages if isinstance(message, ToolMessage)}


def _result(message: ToolMessage) -> str:
    text = _joined(message.content)
    return text if message.error is None else "\n".join(filter(None, (f"Error: {message.error}", text)))


def text_of(message: UserMessage) -> str:
    """Return the text of a message."""
    return _joined(message.content)


def _joined(content: str | list[ContentPart]) -> str:
    if isinstance(content, str):
        return content
    return "".join(part.text for part in content if isinstance(part, TextPart))


async def read_prompt(messages: Sequence[UserMessage], settings: Settings) -> Prompt | None:
    """Return the messages as one prompt; None where nothing in them is of use.

    Parts that no model here can take are left out, as the specification demands; InvalidInput is raised for those that
    are broken or over a limit.
    """
    text = BETWEEN.join(filter(None, map(text_of, messages)))
    longest = settings.max_message_chars
    if len(text) > longest:
        raise InvalidInput(f"messages: the new text is longer than {longest} characters")
    media = list(_media_in(messages))
    if len(media) > settings.max_images:
        raise InvalidInput(f"messages: {len(media)} images and files sent, at most {settings.max_images} are accepted")
    images: tuple[Image, ...] = ()
    if media:
        limit = settings.max_image_bytes
        images = await asyncio.to_thread(lambda: tuple(_checked(*medium, limit) for medium in media))
    return Prompt(text, images) if text or images else None


def _media_in(messages: Sequence[UserMessage]) -> Iterator[tuple[str, str, str]]:
    """Yield place, type and base64 text of each picture and file that can be used."""
    for message in messages:
        parts: list[Any] = [] if isinstance(message.content, str) else message.content
        for number, part in enumerate(parts):
            if isinstance(part, TextPart):
                continue
            found = _inline(part) if isinstance(part, ImagePart | DocumentPart) else None
            if found is None or found[0] not in FILE_TYPES:
                _log.info("part of a message left out", part=part.type, source=part.source.type)
                continue
            yield (f"messages: part {number} of {message.id[:_LONGEST_NAME]}", *found)


def _inline(part: ImagePart | DocumentPart) -> tuple[str, str] | None:
    """Return type and base64 text of a part that brings its bytes; None for others, as nothing is fetched."""
    match part.source:
        case DataSource(mime_type=media_type, value=value):
            return media_type.partition(";")[0].strip().lower().replace("image/jpg", "image/jpeg"), value
        case UrlSource(value=value):
            return split_data_uri(value)
        case _:
            return None


def _checked(where: str, media_type: str, text: str, limit: int) -> Image:
    return checked_file(where, media_type, decode_base64(where, text, limit), limit)
