"""Writes JSON that may be large: in pieces and beside the event loop, so that other requests have their turn."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json
from starlette.responses import Response

from unpause.domain.storable import is_longer

if TYPE_CHECKING:
    from collections.abc import Iterator

# What takes long enough to be noticed, in characters, and what one step writes: no other thread runs meanwhile.
LARGE = 256 * 1024
_PIECE = 64 * 1024


async def write_json(content: Any) -> bytes:  # noqa: ANN401 - whatever is JSON
    """Return the content as one line of JSON."""
    if not is_longer(content, LARGE):
        return to_json(content)
    return await asyncio.to_thread(lambda: b"".join(_pieces(content)))


async def reply_large(content: Any, status: int = 200) -> Response:  # noqa: ANN401 - whatever is JSON
    """Return the content, which may be large, as an answer."""
    return Response(await write_json(content), status, media_type="application/json")


def _pieces(value: Any) -> Iterator[bytes]:  # noqa: ANN401 - whatever is JSON
    match value:
        case dict() if is_longer(value, _PIECE):
            yield b"{"
            for number, (key, inner) in enumerate(value.items()):
                yield (b"," if number else b"") + to_json(key) + b":"
                yield from _pieces(inner)
            yield b"}"
        case list() | tuple() if is_longer(value, _PIECE):
            yield b"["
            for number, inner in enumerate(value):
                if number:
                    yield b","
                yield from _pieces(inner)
            yield b"]"
        case _:
            yield to_json(value)
