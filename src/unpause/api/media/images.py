"""Reads pictures from requests, and refuses everything else."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from typing import TYPE_CHECKING

from unpause.domain.runs import Image
from unpause.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unpause.settings import Settings

_DATA_URI = re.compile(r"data:(?P<type>[\w.+-]{1,127}/[\w.+-]{1,127});base64,", re.ASCII)
_SPACES = b" \t\n\r\f\v"
# Four characters are three bytes. Decoding in steps lets other threads run in between.
_STEP_CHARACTERS = 256 * 1024

# How a file of each accepted type begins: the declared type is no proof.
_BEGINNINGS: dict[str, re.Pattern[bytes]] = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    # RIFF also contains sound and video; the four bytes are its length.
    "image/webp": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
}
IMAGE_TYPES = tuple(_BEGINNINGS)


async def read_images(uris: Sequence[str] | None, settings: Settings) -> tuple[Image, ...]:
    """Return the pictures in a list of base64 data URIs; raise InvalidInput for one that is not accepted."""
    if not uris:
        return ()
    if len(uris) > settings.max_images:
        raise InvalidInput(f"images: {len(uris)} sent, at most {settings.max_images} are accepted")
    return await asyncio.to_thread(_read_all, uris, settings.max_image_bytes)


def _read_all(uris: Sequence[str], limit: int) -> tuple[Image, ...]:
    return tuple(_read(uri, f"images[{number}]", limit) for number, uri in enumerate(uris))


def split_data_uri(uri: str) -> tuple[str, str] | None:
    """Return the type, in lower case, and the base64 text of a data URI; None where it is none."""
    found = _DATA_URI.match(uri)
    return None if found is None else (found["type"].lower(), uri[found.end() :])


def decode_base64(where: str, text: str, limit: int) -> bytes:
    """Return the decoded bytes.

    Raises InvalidInput, with the place ``where`` the text was, if it is no base64 or, before decoding, if it has more
    than ``limit`` bytes.
    """
    try:
        clean = text.encode("ascii").translate(None, _SPACES)
    except UnicodeEncodeError:
        raise _broken(where) from None
    size = len(clean) // 4 * 3 - clean[-2:].count(b"=")
    if size > limit:
        # The error names the item, not the key with the text.
        raise too_large(where.rpartition(".")[0] or where, size, limit)
    if b"=" in clean[:-2]:
        raise _broken(where)
    try:
        steps = range(0, len(clean), _STEP_CHARACTERS)
        return b"".join(base64.b64decode(clean[start : start + _STEP_CHARACTERS], validate=True) for start in steps)
    except (binascii.Error, ValueError):
        raise _broken(where) from None


def _broken(where: str) -> InvalidInput:
    return InvalidInput(f"{where}: the base64 text is invalid")


def too_large(where: str, size: int, limit: int) -> InvalidInput:
    """Return the error about a content that is too large."""
    return InvalidInput(f"{where}: {size} bytes, at most {limit} are accepted")


def detected_type(content: bytes) -> str | None:
    """Return the picture's type by its first bytes; None where it is no accepted one."""
    return next((name for name, beginning in _BEGINNINGS.items() if beginning.match(content)), None)


def check_image_type(where: str, media_type: str) -> None:
    """Raise InvalidInput for a type that is not accepted."""
    if media_type not in _BEGINNINGS:
        raise InvalidInput(f"{where}: {media_type} is not accepted; use {', '.join(IMAGE_TYPES)}")


def check_size(where: str, content: bytes, limit: int) -> None:
    """Raise InvalidInput for a content of more than ``limit`` bytes."""
    if len(content) > limit:
        raise too_large(where, len(content), limit)


def checked_image(where: str, media_type: str, content: bytes, limit: int) -> Image:
    """Return the picture; raise InvalidInput where it is too large or not of its type."""
    check_image_type(where, media_type)
    check_size(where, content, limit)
    if _BEGINNINGS[media_type].match(content) is None:
        raise InvalidInput(f"{where}: the content is not {media_type}")
    return Image(media_type, base64.b64encode(content).decode())


def _read(uri: str, where: str, limit: int) -> Image:
    found = split_data_uri(uri)
    if found is None:
        raise InvalidInput(f"{where}: not a base64 data URI (data:image/png;base64,…)")
    media_type, text = found
    check_image_type(where, media_type)
    return checked_image(where, media_type, decode_base64(where, text, limit), limit)
