"""Reads uploaded files for the model, and refuses types and sizes that it should not get."""

from __future__ import annotations

import base64
from mimetypes import guess_type
from typing import TYPE_CHECKING

from unpause.domain.runs import Image
from unpause.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.datastructures import UploadFile

    from unpause.settings import Settings

# What a client says that knows no better.
_ANYTHING = "application/octet-stream"

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


async def read_files(files: Sequence[UploadFile] | None, settings: Settings) -> tuple[Image, ...]:
    """Return the uploads as what the model is given; raise InvalidInput for one that is not acceptable."""
    given = [file for file in files or () if file.filename]
    if len(given) > settings.max_images:
        raise InvalidInput(f"files: {len(given)} given, at most {settings.max_images} are taken")
    read: list[Image] = []
    for file in given:
        media_type = _type_of(file)
        if media_type not in FILE_TYPES:
            raise InvalidInput("Unsupported file type")
        content = await file.read(settings.max_image_bytes + 1)
        if len(content) > settings.max_image_bytes:
            raise InvalidInput(f"files: {file.filename} is larger than {settings.max_image_bytes} bytes")
        read.append(Image(media_type, base64.b64encode(content).decode()))
    return tuple(read)


def _type_of(file: UploadFile) -> str:
    said = (file.content_type or "").partition(";")[0].strip().lower()
    if said not in {"", _ANYTHING}:
        return said
    # So curl sends what it does not know, a .csv for one.
    guessed, _ = guess_type(file.filename or "")
    return guessed or _ANYTHING
