"""Reads uploaded files for the model, and refuses types and sizes that it should not get."""

from __future__ import annotations

import asyncio
import base64
from mimetypes import guess_type
from typing import TYPE_CHECKING

from unpause.api.media.images import IMAGE_TYPES, check_size, checked_image
from unpause.domain.runs import Image
from unpause.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.datastructures import UploadFile

    from unpause.settings import Settings

# What a client says that knows no better.
_ANYTHING = "application/octet-stream"
_LONGEST_NAME = 255

FILE_TYPES = frozenset(
    {
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "application/pdf",
        "application/json",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "text/plain",
        "text/csv",
        "text/html",
        "text/markdown",
        "text/md",
        "text/xml",
    }
)


# How a file of such a type begins; of a PDF, within its first part.
_BEGINNINGS = {
    "application/pdf": (b"%PDF-", 1024),
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": (b"PK", 2),
}
# Text in one of these has bytes of zero, and says so at its beginning.
_WIDE_TEXT = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


async def read_files(files: Sequence[UploadFile] | None, settings: Settings) -> tuple[Image, ...]:
    """Return the uploads as what the model is given; raise InvalidInput for one that is not acceptable."""
    given = [file for file in files or () if file.filename]
    if len(given) > settings.max_images:
        raise InvalidInput(f"files: {len(given)} given, at most {settings.max_images} are taken")
    limit = settings.max_image_bytes
    read: list[Image] = []
    for file in given:
        media_type = _type_of(file)
        if media_type not in FILE_TYPES:
            raise InvalidInput("Unsupported file type")
        content = await file.read(limit + 1)
        name = (file.filename or "")[:_LONGEST_NAME]
        if len(content) > limit:
            raise InvalidInput(f"files: {name} is larger than {limit} bytes")
        read.append(await asyncio.to_thread(checked_file, f"files: {name}", media_type, content, limit))
    return tuple(read)


def checked_file(where: str, media_type: str, content: bytes, limit: int) -> Image:
    """Return the file for the model; raise InvalidInput where it is too large or not what it is said to be.

    A name and a type are no proof: a picture, a PDF and a document of Word begin as such, and a text has no bytes of
    zero.
    """
    if media_type in IMAGE_TYPES:
        return checked_image(where, media_type, content, limit)
    check_size(where, content, limit)
    beginning, within = _BEGINNINGS.get(media_type, (b"", 0))
    if beginning not in content[:within] if beginning else _is_binary(content):
        raise InvalidInput(f"{where}: the content is not {media_type}")
    return Image(media_type, base64.b64encode(content).decode())


def _is_binary(content: bytes) -> bool:
    return b"\0" in content and not content.startswith(_WIDE_TEXT)


def _type_of(file: UploadFile) -> str:
    said = (file.content_type or "").partition(";")[0].strip().lower()
    if said not in {"", _ANYTHING}:
        return said
    # So curl sends what it does not know, a .csv for one.
    guessed, _ = guess_type(file.filename or "")
    return guessed or _ANYTHING
