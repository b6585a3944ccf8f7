"""Reads pictures out of requests, and refuses what is none."""

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
# Four characters stand for three bytes. So many are decoded in one step: others have their turn between two.
_STEP_CHARACTERS = 256 * 1024

# How a file of each accepted type begins: a name alone is no proof.
_BEGINNINGS: dict[str, re.Pattern[bytes]] = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    # RIFF holds sounds and films, too; its four bytes of length may be any.
    "image/webp": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
}
IMAGE_TYPES = tuple(_BEGINNINGS)


async def read_images(uris: Sequence[str] | None, settings: Settings) -> tuple[Image, ...]:
    """Return the pictures in a list of base64 data URIs; raise InvalidInput for one that is not acceptable."""
    given = uris or ()
    if not given:
        return ()
    if len(given) > settings.max_images:
        raise InvalidInput(f"images: {len(given)} given, at most {settings.max_images} are taken")
    return await asyncio.to_thread(_read_all, given, settings.max_image_bytes)


def _read_all(uris: Sequence[str], limit: int) -> tuple[Image, ...]:
    return tuple(_read(uri, f"images[{number}]", limit) for number, uri in enumerate(uris))


def split_data_uri(uri: str) -> tuple[str, str] | None:
    """Return the type, in small letters, and the base64 text of a data URI; None where it is none."""
    found = _DATA_URI.match(uri)
    return None if found is None else (found["type"].lower(), uri[found.end() :])


def decode_base64(where: str, text: str, limit: int) -> bytes:
    """Return what the text stands for.

    Raises InvalidInput that names ``where`` it stood if it is no base64, or stands for more than ``limit`` bytes: the
    latter before anything is decoded.
    """
    try:
        clean = text.encode("ascii").translate(None, _SPACES)
    except UnicodeEncodeError:
        raise _broken(where) from None
    size = len(clean) // 4 * 3 - clean[-2:].count(b"=")
    if size > limit:
        # Of the item, whichever of its keys the text stood in.
        raise too_large(where.rpartition(".")[0] or where, size, limit)
    if b"=" in clean[:-2]:
        raise _broken(where)
    try:
        steps = range(0, len(clean), _STEP_CHARACTERS)
        return b"".join(base64.b64decode(clean[start : start + _STEP_CHARACTERS], validate=True) for start in steps)
    except (binascii.Error, ValueError):
        raise _broken(where) from None


def _broken(where: str) -> InvalidInput:
    return InvalidInput(f"{where}: the base64 text is broken")


def too_large(where: str, size: int, limit: int) -> InvalidInput:
    """Return what is wrong with a content of so many bytes."""
    return InvalidInput(f"{where}: {size} bytes, at most {limit} are taken")


def seen_type(content: bytes) -> str | None:
    """Return the type of the picture that begins like this; None where it is none that is taken."""
    return next((name for name, beginning in _BEGINNINGS.items() if beginning.match(content)), None)


def check_image_type(where: str, media_type: str) -> None:
    """Raise InvalidInput for a type of picture that is not taken."""
    if media_type not in _BEGINNINGS:
        raise InvalidInput(f"{where}: {media_type} is not taken; use {', '.join(IMAGE_TYPES)}")


def check_size(where: str, content: bytes, limit: int) -> None:
    """Raise InvalidInput for a content of more than ``limit`` bytes."""
    if len(content) > limit:
        raise too_large(where, len(content), limit)


def checked_image(where: str, media_type: str, content: bytes, limit: int) -> Image:
    """Return the picture; raise InvalidInput where it is too large or not what it is said to be."""
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
