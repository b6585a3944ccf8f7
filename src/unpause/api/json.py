"""Reads bodies: JSON as RFC 8259 has it, and forms; large ones beside the event loop, so that nobody waits for them."""

from __future__ import annotations

import asyncio
import math
import re
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from pydantic_core import from_json, to_json
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from unpause.domain.storable import DEEPEST, is_nested_deeper

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

# Clients send calls back as they were shown, with their own JSON around the arguments.
_DEEPEST = DEEPEST + 10
# Where there is none of these, no number is too large for a float.
_LARGE = re.compile(rb"[eE]\+?0*[0-9]{3}|[0-9]{200}")
# Up to this size a body is read at once: a hop to a thread costs more.
_SMALL_BYTES = 64 * 1024
# What the event loop or a thread does in one step.
_SLICE_BYTES = 16 * 1024
# What is parsed into more objects than these holds the interpreter's lock for longer than others should wait.
MOST_VALUES = 100_000
_MOST_ESCAPES = 2_000_000
# A form of so many is read at once.
_FEW_SLICES = 2
_URLENCODED = "application/x-www-form-urlencoded"


class TooManyValues(ValueError):
    """The JSON has more values than anybody needs."""

    def __init__(self) -> None:
        super().__init__(f"more than {MOST_VALUES} values")


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401 - whatever was sent
    """Return what the text says; raise ValueError for what is no JSON, or cannot be kept.

    That is a number which is too large, and nesting of more than 110 levels; or more than 100,000 values.
    """
    content = text.encode(errors="replace") if isinstance(text, str) else text
    is_small = len(content) <= _SMALL_BYTES
    if not is_small:
        _refuse_many_values(content)
    value = from_json(text, allow_inf_nan=False)
    if content.count(b"[") + content.count(b"{") > _DEEPEST and is_nested_deeper(value, _DEEPEST):
        raise ValueError(f"nested in more than {_DEEPEST} levels")
    if not is_small:
        _refuse_infinity(value)
    elif _LARGE.search(content):
        # The parser itself takes 1e999 for infinity.
        from_json(to_json(value, inf_nan_mode="constants"), allow_inf_nan=False)
    return value


async def read_json(text: str | bytes) -> Any:  # noqa: ANN401 - whatever was sent
    """Do the same without keeping the event loop from its other work."""
    return parse_json(text) if len(text) <= _SMALL_BYTES else await asyncio.to_thread(parse_json, text)


class StrictRequest(Request):
    """A request whose JSON can be stored and answered again: Python's own parser lets through what cannot.

    Whatever its size, reading it never holds up the event loop.
    """

    async def json(self) -> Any:  # noqa: ANN401 - whatever was sent
        """Return what the body says; raise JSONDecodeError, which FastAPI answers with 422."""
        try:
            return await read_json(await self.body())
        except ValueError as error:
            raise JSONDecodeError(str(error), "", 0) from None

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the body in slices; between them others have their turn, since who reads them does so at once."""
        async for chunk in super().stream():
            if len(chunk) <= _SLICE_BYTES:
                yield chunk
                continue
            for start in range(0, len(chunk), _SLICE_BYTES):
                yield chunk[start : start + _SLICE_BYTES]
                await asyncio.sleep(0)

    async def _get_form(
        self, *, max_files: float = 1000, max_fields: float = 1000, max_part_size: int = 1024 * 1024
    ) -> FormData:
        content_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if self._form is None and content_type == _URLENCODED:
            # Starlette would undo the percent signs of a whole field in one step, and count no empty fields.
            slices = []
            count = 1
            async for piece in self.stream():
                slices.append(piece)
                count += piece.count(b"&")
                if count > max_fields:
                    raise HTTPException(400, f"Too many fields. Maximum number of fields is {max_fields}.")
            if len(slices) <= _FEW_SLICES:
                self._form = _read_fields(slices, max_part_size)
            else:
                self._form = await asyncio.to_thread(_read_fields, slices, max_part_size)
            return self._form
        return await super()._get_form(max_files=max_files, max_fields=max_fields, max_part_size=max_part_size)


def _read_fields(slices: Sequence[bytes], most_bytes: int) -> FormData:
    """Return the fields of a URL-encoded form; those without a name and a value are none."""
    items: list[tuple[str, str | UploadFile]] = []
    for field in filter(None, b"".join(slices).split(b"&")):
        if len(field) > most_bytes:
            raise HTTPException(400, f"Field exceeded maximum size of {most_bytes // 1024}KB.")
        name, _, value = field.partition(b"=")
        items.append((_decoded(name), _decoded(value)))
    return FormData(items)


def _decoded(text: bytes) -> str:
    """Return what a name or value stands for, decoded slice by slice."""
    parts = []
    start = 0
    while start < len(text):
        end = min(start + _SLICE_BYTES, len(text))
        # A percent sign stays with its two digits.
        cut = text.rfind(b"%", end - 2, end)
        if end < len(text) and cut > start:
            end = cut
        parts.append(unquote_to_bytes(text[start:end].replace(b"+", b" ")))
        start = end
    return b"".join(parts).decode("utf-8", errors="replace")


def _refuse_many_values(content: bytes) -> None:
    """Raise TooManyValues; what stands in strings counts for nothing, but for what has to be decoded there."""
    if content.count(b"\\") > _MOST_ESCAPES:
        raise TooManyValues
    # Nearly always this is enough, and it takes no time.
    if _count_marks(content) < MOST_VALUES:
        return
    count = 0
    is_in_string = False
    start = 0
    while start < len(content):
        piece = content[start : start + _SLICE_BYTES]
        start += len(piece)
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2 and start < len(content):
            # A backslash stays with what it escapes.
            piece += content[start : start + 1]
            start += 1
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        count += _count_marks(b"".join(parts[1 if is_in_string else 0 :: 2]))
        if count >= MOST_VALUES:
            raise TooManyValues
        is_in_string ^= len(parts) % 2 == 0


def _count_marks(content: bytes) -> int:
    return content.count(b",") + content.count(b"[") + content.count(b"{")


def _refuse_infinity(value: object) -> None:
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
        elif isinstance(found, float) and math.isinf(found):
            raise ValueError("a number is too large")
