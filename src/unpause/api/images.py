"""Reads pictures out of requests, and refuses what is none."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from unpause.domain.runs import Image
from unpause.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unpause.settings import Settings

_DATA_URI = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+);base64,(?P<data>[A-Za-z0-9+/=\s]*)", re.ASCII)

# How a file of each accepted type begins: a name alone is no proof.
_BEGINNINGS: dict[str, re.Pattern[bytes]] = {
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    # RIFF holds sounds and films, too; its four bytes of length may be any.
    "image/webp": re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
}


def read_images(uris: Sequence[str] | None, settings: Settings) -> tuple[Image, ...]:
    """Return the pictures in a list of base64 data URIs; raise InvalidInput for one that is not acceptable."""
    given = uris or ()
    if len(given) > settings.max_images:
        raise InvalidInput(f"images: {len(given)} given, at most {settings.max_images} are taken")
    return tuple(_read(uri, number, settings.max_image_bytes) for number, uri in enumerate(given))


def _read(uri: str, number: int, limit: int) -> Image:
    found = _DATA_URI.fullmatch(uri)
    if found is None:
        raise InvalidInput(f"images[{number}]: not a base64 data URI (data:image/png;base64,…)")
    media_type = found["type"].lower()
    if media_type not in _BEGINNINGS:
        raise InvalidInput(f"images[{number}]: {media_type} is not taken; use {', '.join(_BEGINNINGS)}")
    try:
        content = base64.b64decode(found["data"], validate=False)
    except (binascii.Error, ValueError):
        raise InvalidInput(f"images[{number}]: the base64 text is broken") from None
    if len(content) > limit:
        raise InvalidInput(f"images[{number}]: {len(content)} bytes, at most {limit} are taken")
    if _BEGINNINGS[media_type].match(content) is None:
        raise InvalidInput(f"images[{number}]: the content is not {media_type}")
    return Image(media_type, base64.b64encode(content).decode())
