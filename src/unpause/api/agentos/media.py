"""Reads the media of a request: uploads, and JSON form fields."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import File, Form, UploadFile
from pydantic import BaseModel, ConfigDict, ValidationError

from unpause.api.agentos.wire.requests import parse_field
from unpause.api.media.files import FILE_TYPES, checked_file, read_files
from unpause.api.media.images import (
    IMAGE_TYPES,
    checked_image,
    decode_base64,
    detected_type,
    split_data_uri,
)
from unpause.domain.runs import Image
from unpause.errors import InvalidInput

if TYPE_CHECKING:
    from unpause.settings import Settings

_PDF = b"%PDF-"
_JPEG = "image/jpeg"

# Types by format or file extension; AgentOS's clients send `plain` for a name without an extension.
_FORMATS = {
    "jpg": _JPEG,
    "pdf": "application/pdf",
    "json": "application/json",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "txt": "text/plain",
    "plain": "text/plain",
    "csv": "text/csv",
    "html": "text/html",
    "md": "text/markdown",
    "markdown": "text/markdown",
    "xml": "text/xml",
    **{name.removeprefix("image/"): name for name in IMAGE_TYPES},
}

Text = Annotated[str | None, Form()]


@dataclass(frozen=True, slots=True)
class SentMedia:
    """The media fields of a form, unread: ``files`` are uploads, the others JSON."""

    files: list[UploadFile] | None = None
    images: str | None = None
    audio: str | None = None
    videos: str | None = None
    input_files: str | None = None


async def sent_media(
    files: Annotated[list[UploadFile] | None, File()] = None,
    images: Text = None,
    audio: Text = None,
    videos: Text = None,
    input_files: Text = None,
) -> SentMedia:
    """Return the media fields unread: errors about the form come before errors about media."""
    return SentMedia(files, images, audio, videos, input_files)


class _Medium(BaseModel):
    """A picture or file as Agno's clients send it; other keys are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    content: str | None = None
    url: str | None = None
    filepath: str | None = None
    media_reference: Any = None
    external: Any = None
    mime_type: str | None = None
    format: str | None = None
    filename: str | None = None

    @property
    def declared_type(self) -> str | None:
        """The declared MIME type, in lower case and without parameters."""
        name = (self.mime_type or "").partition(";")[0].strip().lower()
        return _JPEG if name == "image/jpg" else name or None

    @property
    def format_type(self) -> str | None:
        """The type by the format, or by the file's extension."""
        _, dot, ending = (self.filename or "").rpartition(".")
        name = self.format or (ending if dot else "")
        return _FORMATS.get(name.strip().lower().removeprefix("."))


async def read_media(sent: SentMedia, settings: Settings) -> tuple[Image, ...]:
    """Return the media for the model: uploads, pictures, files.

    Raises InvalidInput, which names the field, for media that are not accepted and for too many of them.
    """
    max_images, limit = settings.max_images, settings.max_image_bytes
    uploads = await read_files(sent.files, settings)
    for field, text in (("audio", sent.audio), ("videos", sent.videos)):
        if await _read_list(field, text):
            raise InvalidInput(f"{field}: not accepted; send images and files only")
    images, files = await _read_list("images", sent.images), await _read_list("input_files", sent.input_files)
    count = len(uploads) + len(images) + len(files)
    if count > max_images:
        raise InvalidInput(f"files, images and input_files: {count} sent, at most {max_images} are accepted")
    if not images and not files:
        return uploads
    return (*uploads, *await asyncio.to_thread(_read_items, images, files, limit))


async def _read_list(field: str, text: str | None) -> list[dict[str, Any]]:
    """Return the objects in a form field; none for one that is empty."""
    value = await parse_field(field, text)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise InvalidInput(f"{field} must be a JSON array of objects")
    return value


def _read_items(images: list[dict[str, Any]], files: list[dict[str, Any]], limit: int) -> list[Image]:
    """Return the media of two form fields; errors name the item's place in the request."""
    sent = [(f"images[{number}]", _image, item) for number, item in enumerate(images)]
    sent.extend((f"input_files[{number}]", _file, item) for number, item in enumerate(files))
    media = [(where, read, _medium(where, item)) for where, read, item in sent]
    return [read(where, item, limit) for where, read, item in media]


def _medium(where: str, item: dict[str, Any]) -> _Medium:
    try:
        return _Medium.model_validate(item)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidInput(f"{where}.{first['loc'][0]}: {first['msg']}") from None


def _image(where: str, item: _Medium, limit: int) -> Image:
    media_type, content = item.declared_type, b""
    if item.content:
        content = decode_base64(f"{where}.content", item.content, limit)
    else:
        uri_type, content = _from_uri(where, item, limit)
        media_type = media_type or uri_type
    if media_type is None and item.format:
        media_type = item.format_type or f"image/{item.format.strip().lower()}"
    media_type = media_type or detected_type(content)
    if media_type is None:
        raise InvalidInput(f"{where}: the content is none of {', '.join(IMAGE_TYPES)}")
    return checked_image(where, media_type, content, limit)


def _file(where: str, item: _Medium, limit: int) -> Image:
    media_type = item.declared_type or item.format_type
    if item.content:
        content = _content_of_file(where, item, media_type, limit)
    else:
        uri_type, content = _from_uri(where, item, limit)
        media_type = media_type or uri_type
    media_type = media_type or detected_type(content) or ("application/pdf" if content.startswith(_PDF) else None)
    if media_type is None:
        raise InvalidInput(f"{where}: its type is missing (mime_type) and not detected from the content")
    if media_type not in FILE_TYPES:
        raise InvalidInput(f"{where}: {media_type} is not accepted; use {', '.join(sorted(FILE_TYPES))}")
    return checked_file(where, media_type, content, limit)


def _content_of_file(where: str, item: _Medium, media_type: str | None, limit: int) -> bytes:
    """Return the bytes of a file: Agno's clients send ``text/…`` types as plain text, all others as base64."""
    text = item.content or ""
    if (item.declared_type or "").startswith("text/"):
        return text.encode()
    try:
        return decode_base64(f"{where}.content", text, limit)
    except InvalidInput:
        # Clients do not encode a file that was created from a string, whatever its type.
        if media_type is not None and (media_type.startswith("text/") or media_type == "application/json"):
            return text.encode()
        raise


def _from_uri(where: str, item: _Medium, limit: int) -> tuple[str, bytes]:
    """Return type and content of an item with a data URI; raise InvalidInput for an item without content."""
    if item.url:
        found = split_data_uri(item.url)
        if found is None:
            raise InvalidInput(f"{where}.url: not fetched; send the content itself, as base64 in `content`")
        return found[0], decode_base64(f"{where}.url", found[1], limit)
    for field in ("filepath", "media_reference", "external"):
        if getattr(item, field):
            raise InvalidInput(f"{where}.{field}: not read; send the content itself, as base64 in `content`")
    raise InvalidInput(f"{where}: has no content")
