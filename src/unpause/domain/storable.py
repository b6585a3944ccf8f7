"""What can be stored and read again: text that can be encoded, numbers that JSON has, and limited nesting.

PostgreSQL refuses U+0000 in text and JSON, no encoding has half of a surrogate pair, and JSON parsers give up at some
depth. A client's value with any of these is refused; a model's or tool's value is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from math import isfinite
from typing import Any, Final, TypeVar

from pydantic_core import PydanticSerializationError, to_json

from unpause.errors import InvalidInput

T = TypeVar("T")

# JSON parsers take about 200 levels, and events add a few around a model's or tool's value.
DEEPEST: Final = 100

_NUL = "\0"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_NUL_IN_JSON = b"\\u0000"
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

# Tuples: a union of types would be made anew for each value that is looked at, and takes three times as long.
_TEXTS: Final = (str, bytes)
_NUMBERS: Final = (int, float)
_NESTING: Final = (dict, list, tuple)
_LISTS: Final = (list, tuple, set, frozenset)
# The abstract class comes last: to ask it takes a multiple of the time.
_MAPPINGS: Final = (dict, Mapping)


def refuse_unstorable(*values: object) -> None:
    """Raise InvalidInput where a client's text, JSON or dataclass has a character that cannot be stored."""
    for value in values:
        # Part by part: most of a request may be its pictures, which are plain text.
        if is_dataclass(value):
            refuse_unstorable(*(getattr(value, field.name) for field in fields(value)))
        elif isinstance(value, tuple):
            refuse_unstorable(*value)
        elif _is_suspect(value) and (text := _find_text(value)) is not None:
            what = "the character U+0000" if _NUL in text else "half of a surrogate pair"
            raise InvalidInput(f"Text must not contain {what}")


def replace_unstorable(value: T) -> T:
    """Return text, JSON or a dataclass of these in a form that can be stored; the same object where it can.

    Two halves of a surrogate pair that stand together become their character; each other one and each U+0000 becomes
    U+FFFD.
    """
    replaced: T = _replaced(value) if _is_suspect(value) else value
    return replaced


def replace_unstorable_numbers(value: T) -> T:
    """Return a JSON value with strings for NaN and the infinities, as ``replace_unstorable`` does for text."""
    text = to_json(value, fallback=repr, inf_nan_mode="constants")
    # These may also be part of a string.
    replaced: T = _replaced(value) if b"NaN" in text or b"Infinity" in text else value
    return replaced


def is_nested_deeper(value: object, levels: int = DEEPEST) -> bool:
    """Whether objects and arrays of a JSON value are nested in more than so many levels."""
    level: list[Any] = [value] if isinstance(value, _NESTING) else []
    for _ in range(levels):
        if not level:
            return False
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, _NESTING)
        ]
    return bool(level)


def is_longer(value: object, size: int) -> bool:
    """Whether a JSON value has more than about so many characters; looks at no more of it than it must."""
    return room_left(value, size) < 0


def room_left(value: object, size: int) -> int:
    """Return ``size`` less about the characters of a JSON value; looks at no more of it than it takes to be negative.

    What is no JSON counts as a number does.
    """
    level: list[Any] = [value]
    while level:
        # Brackets, commas, quotes and colons, or a number.
        size -= 2 * len(level)
        inner: list[Any] = []
        for item in level:
            if isinstance(item, _TEXTS):
                size -= len(item)
            elif item is None or isinstance(item, _NUMBERS):
                continue
            elif isinstance(item, _LISTS):
                size -= len(item)
                inner += item
            elif isinstance(item, _MAPPINGS):
                size -= 2 * len(item)
                inner += item
                inner += item.values()
            if size < 0:
                return size
        level = inner
    return size


def _is_suspect(value: object) -> bool:
    """Whether something may have to be replaced: five times as fast to see in the JSON, and nearly always not so."""
    if isinstance(value, str):
        return _UNSTORABLE.search(value) is not None if not value.isascii() else _NUL in value
    if value is None or isinstance(value, _NUMBERS):
        return False
    try:
        return _NUL_IN_JSON in to_json(value, fallback=repr)
    except (PydanticSerializationError, RecursionError):
        return True


def _find_text(value: object) -> str | None:
    """Return a text with an unstorable character in it, or None."""
    if isinstance(value, str):
        return value if _UNSTORABLE.search(value) else None
    inner: list[Any] = []
    if isinstance(value, Mapping):
        inner = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple):
        inner = list(value)
    elif is_dataclass(value):
        inner = [getattr(value, field.name) for field in fields(value)]
    return next((text for text in map(_find_text, inner) if text is not None), None)


def _replaced(value: Any) -> Any:  # noqa: ANN401 - any JSON, or a dataclass of it
    match value:
        case str():
            return _storable_text(value) if _UNSTORABLE.search(value) else value
        case float():
            return value if isfinite(value) else _word(value)
        case Mapping():
            pairs = [(_replaced(key), _replaced(item)) for key, item in value.items()]
            unchanged = all(
                old[0] is new[0] and old[1] is new[1] for old, new in zip(value.items(), pairs, strict=True)
            )
            return value if unchanged else dict(pairs)
        case list() | tuple():
            items = [_replaced(item) for item in value]
            unchanged = all(old is new for old, new in zip(value, items, strict=True))
            return value if unchanged else items if isinstance(value, list) else tuple(items)
        case _ if is_dataclass(value) and not isinstance(value, type):
            changed = {}
            for field in fields(value):
                old = getattr(value, field.name)
                new = _replaced(old)
                if new is not old:
                    changed[field.name] = new
            return replace(value, **changed) if changed else value
        case _:
            return value


def _storable_text(text: str) -> str:
    joined = _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), text)
    return _UNSTORABLE.sub(_REPLACEMENT, joined)


def _word(number: float) -> str:
    if number > 0:
        return "Infinity"
    return "-Infinity" if number < 0 else "NaN"
