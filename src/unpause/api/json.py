"""Reads and writes JSON (RFC 8259) and reads forms; large ones in a thread, so that the event loop goes on."""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from json import JSONDecodeError, JSONDecoder
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from pydantic_core import from_json, to_json
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from unpause.api.multipart import not_utf8, read_multipart
from unpause.domain.storable import DEEPEST, is_longer, is_nested_deeper

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence

# Clients send calls back with a few levels of JSON around the arguments.
_DEEPEST = DEEPEST + 10
# Only text that matches can have a number that is too large for a float.
_LARGE = re.compile(rb"[eE]\+?0*[0-9]{3}|[0-9]{200}")
# Up to this size a body is read at once: a thread costs more.
_SMALL_BYTES = 64 * 1024
# The bytes of one step in the event loop or a thread.
_SLICE_BYTES = 16 * 1024
# Of a key that an error repeats.
_LONGEST_KEY = 200
# Parsing more values holds the interpreter's lock for too long.
MAX_VALUES = 100_000
_MAX_ESCAPES = 2_000_000
# A form of so many slices is read at once.
_FEW_SLICES = 2
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
_FORMS = frozenset({"", URLENCODED, MULTIPART})

# The characters that take noticeably long to write, and those of one step: no other thread runs meanwhile.
LARGE = 256 * 1024
_PIECE = 64 * 1024


class JsonTooLarge(ValueError):
    """The JSON has too many values."""

    def __init__(self) -> None:
        super().__init__(f"more than {MAX_VALUES} values")


class RepeatedKey(ValueError):
    """An object of the JSON has a key twice: readers differ in which of the values they take."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key[:_LONGEST_KEY]!r} twice in an object")


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object; raise RepeatedKey."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise RepeatedKey(next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1))
    return found


# It takes twice the time of the other parser, which keeps the last of several values.
_WITHOUT_REPEATED_KEYS: Final = JSONDecoder(object_pairs_hook=_read_object, parse_int=float, parse_float=float)


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401 - whatever was sent
    """Return the value; raise ValueError for invalid JSON and for JSON that cannot be stored.

    That is JSON with a number that is too large, with more than 110 levels, with more than 100,000 values or with a key
    twice in an object.
    """
    content = text.encode(errors="replace") if isinstance(text, str) else text
    is_small = len(content) <= _SMALL_BYTES
    if not is_small:
        _refuse_many_values(content)
    value = from_json(text, allow_inf_nan=False)
    if content.count(b"[") + content.count(b"{") > _DEEPEST and is_nested_deeper(value, _DEEPEST):
        raise ValueError(f"nested in more than {_DEEPEST} levels")
    if b"{" in content:
        _WITHOUT_REPEATED_KEYS.decode(content.decode())
    if not is_small:
        _refuse_infinity(value)
    elif _LARGE.search(content):
        # The parser reads 1e999 as infinity.
        from_json(to_json(value, inf_nan_mode="constants"), allow_inf_nan=False)
    return value


async def read_json(text: str | bytes) -> Any:  # noqa: ANN401 - whatever was sent
    """Do the same without blocking the event loop."""
    return parse_json(text) if len(text) <= _SMALL_BYTES else await asyncio.to_thread(parse_json, text)


class StrictRequest(Request):
    """A request whose JSON can be stored and sent again, which Python's own parser does not guarantee.

    Reading it never blocks the event loop, whatever its size.
    """

    @property
    def media_type(self) -> str:
        """The body's type, in lower case and without parameters; empty where it is not declared."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def json(self) -> Any:  # noqa: ANN401 - whatever was sent
        """Return the parsed body; raise JSONDecodeError, which FastAPI answers with 422."""
        try:
            return await read_json(await self.body())
        except ValueError as error:
            raise JSONDecodeError(str(error), "", 0) from None

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the body in slices, and let other tasks run between them."""
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
        if self._form is not None:
            return self._form
        if self.media_type == URLENCODED:
            # Starlette would decode a whole field in one step, and count no empty fields.
            slices = []
            count = 1
            async for piece in self.stream():
                slices.append(piece)
                count += piece.count(b"&")
                if count > max_fields:
                    raise HTTPException(400, f"Too many fields. Maximum number of fields is {max_fields}.")
            if len(slices) <= _FEW_SLICES:
                form = _read_fields(slices, max_part_size)
            else:
                form = await asyncio.to_thread(_read_fields, slices, max_part_size)
        elif self.media_type == MULTIPART:
            form = await read_multipart(self, max_files, max_fields, max_part_size)
        else:
            form = await super()._get_form(max_files=max_files, max_fields=max_fields, max_part_size=max_part_size)
        if (repeated := _repeated_field(form)) is not None:
            await form.close()
            raise HTTPException(400, f"The form has the field {repeated[:_LONGEST_KEY]!r} more than once")
        self._form = form
        return form


class FormOrJsonRequest(StrictRequest):
    """A request that brings the fields of a form, or a JSON object with the same fields.

    Objects and arrays become the JSON text that the form has in their place. A stream has to be requested: for a client
    that sends JSON, a response in JSON is the default.
    """

    async def _get_form(
        self, *, max_files: float = 1000, max_fields: float = 1000, max_part_size: int = 1024 * 1024
    ) -> FormData:
        if self.media_type in _FORMS:
            return await super()._get_form(max_files=max_files, max_fields=max_fields, max_part_size=max_part_size)
        if self.media_type != "application/json":
            raise HTTPException(415, f"Content-Type must be application/json or that of a form, not {self.media_type}")
        if self._form is None:
            sent = await self.json()
            if not isinstance(sent, dict):
                raise JSONDecodeError("not an object", "", 0)
            fields = {"stream": False, **{name: value for name, value in sent.items() if value is not None}}
            self._form = FormData([(name, await _as_field(name, value)) for name, value in fields.items()])
        return self._form


# The fields with JSON in them.
_JSON_FIELDS = frozenset(
    {"tools", "session_state", "dependencies", "metadata", "output_schema", "images", "audio", "videos", "input_files"}
)


_FLAGS = frozenset({"stream", "stream_events", "background", "use_json_schema"})
# No field of a form is one: what takes its place is refused.
_NO_FLAG: Final = object()


async def _as_field(name: str, value: Any) -> Any:  # noqa: ANN401 - whatever is JSON
    """Return the value as in a form; other values are left for the validation of the fields. A number is no flag."""
    if name in _JSON_FIELDS and isinstance(value, dict | list):
        return (await write_json(value)).decode()
    if name in _FLAGS and isinstance(value, int | float) and not isinstance(value, bool):
        return _NO_FLAG
    return value


def _read_fields(slices: Sequence[bytes], most_bytes: int) -> FormData:
    """Return the fields of a URL-encoded form; empty ones are left out."""
    items: list[tuple[str, str | UploadFile]] = []
    for field in filter(None, b"".join(slices).split(b"&")):
        name, _, value = field.partition(b"=")
        if len(field) > most_bytes:
            named = _decoded(name[:_LONGEST_KEY]).decode(errors="replace")
            raise HTTPException(400, f"The form's field {named!r} exceeded the maximum size of {most_bytes // 1024}KB.")
        named = _decoded(name).decode(errors="replace")
        try:
            items.append((named, _decoded(value).decode()))
        except UnicodeDecodeError:
            raise HTTPException(400, not_utf8(named)) from None
    return FormData(items)


def _repeated_field(form: FormData) -> str | None:
    """Return a field that stands twice, of which the last one would count; uploads may stand together."""
    if len(form) == len(form.multi_items()):
        return None
    counts = Counter(name for name, value in form.multi_items() if isinstance(value, str))
    return next((name for name, count in counts.items() if count > 1), None)


def _decoded(text: bytes) -> bytes:
    """Return the decoded name or value, decoded slice by slice."""
    parts = []
    start = 0
    while start < len(text):
        end = min(start + _SLICE_BYTES, len(text))
        # Keep a percent sign with its two digits.
        cut = text.rfind(b"%", end - 2, end)
        if end < len(text) and cut > start:
            end = cut
        parts.append(_unquoted(text[start:end].replace(b"+", b" ")))
        start = end
    return b"".join(parts)


def _unquoted(text: bytes) -> bytes:
    """Return what ``unquote_to_bytes`` does, which takes a step of Python for each escape."""
    if b"%" not in text:
        return text
    try:
        # An escape of Python's stands for the same byte.
        return text.replace(b"\\", b"\\\\").replace(b"%", b"\\x").decode("unicode_escape").encode("latin-1")
    except UnicodeDecodeError:
        # A percent sign without digits stands for itself.
        return unquote_to_bytes(text)


def _refuse_many_values(content: bytes) -> None:
    """Raise JsonTooLarge; the content of strings does not count, but for escapes that have to be decoded."""
    if content.count(b"\\") > _MAX_ESCAPES:
        raise JsonTooLarge
    # Nearly always this fast check is enough.
    if _count_marks(content) < MAX_VALUES:
        return
    count = 0
    is_in_string = False
    start = 0
    while start < len(content):
        piece = content[start : start + _SLICE_BYTES]
        start += len(piece)
        if (len(piece) - len(piece.rstrip(b"\\"))) % 2 and start < len(content):
            # Keep a backslash with what it escapes.
            piece += content[start : start + 1]
            start += 1
        parts = piece.replace(b"\\\\", b"").replace(b'\\"', b"").split(b'"')
        count += _count_marks(b"".join(parts[1 if is_in_string else 0 :: 2]))
        if count >= MAX_VALUES:
            raise JsonTooLarge
        is_in_string ^= len(parts) % 2 == 0


def _count_marks(content: bytes) -> int:
    return content.count(b",") + content.count(b"[") + content.count(b"{")


def _refuse_infinity(value: object) -> None:
    stack = [value]
    while stack:
        found = stack.pop()
        if isinstance(found, dict):
            stack.extend(found.values())
        elif isinstance(found, list):
            stack.extend(found)
        elif isinstance(found, float) and math.isinf(found):
            raise ValueError("a number is too large")


async def write_json(content: Any) -> bytes:  # noqa: ANN401 - whatever is JSON
    """Return the content as one line of JSON."""
    if not is_longer(content, LARGE):
        return to_json(content)
    return await asyncio.to_thread(lambda: b"".join(_pieces(content)))


async def large_json_response(content: Any, status: int = 200) -> Response:  # noqa: ANN401 - whatever is JSON
    """Return a response with the content, which may be large."""
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
