"""Reads uploaded files for the model, and refuses other types and too large ones."""

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

# The type from a client that does not know it.
_UNKNOWN_TYPE = "application/octet-stream"
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


# How a file of the type begins; a PDF within its first kilobyte.
_BEGINNINGS = {
    "application/pdf": (b"%PDF-", 1024),
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": (b"PK", 2),
}
# Byte order marks of encodings whose text has zero bytes.
_WIDE_TEXT = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


async def read_files(files: Sequence[UploadFile] | None, settings: Settings) -> tuple[Image, ...]:
    """Return the uploads for the model; raise InvalidInput for one that is not accepted."""
    uploads = [file for file in files or () if file.filename]
    if len(uploads) > settings.max_images:
        raise InvalidInput(f"files: {len(uploads)} sent, at most {settings.max_images} are accepted")
    limit = settings.max_image_bytes
    read: list[Image] = []
    for file in uploads:
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
    """Return the file for the model; raise InvalidInput where it is too large or not of its type.

    The declared type is no proof: pictures, PDFs and Word documents have known first bytes, and text no zero bytes.
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
    declared = (file.content_type or "").partition(";")[0].strip().lower()
    if declared not in {"", _UNKNOWN_TYPE}:
        return declared
    # curl sends this for types that it does not know, such as .csv.
    guessed, _ = guess_type(file.filename or "")
    return guessed or _UNKNOWN_TYPE
