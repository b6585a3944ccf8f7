"""Hides values that humans filled in for a tool alone, in texts that others will read."""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from enum import Enum
from html import escape
from itertools import chain, groupby
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

from unpause.agents.containment import write

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HIDDEN: Final = "[hidden]"

# Characters in a row that give a value away; the shortest text that is found within a word; what is longer or deeper
# is not searched as a whole.
_PIECE = 8
_SHORTEST_ANYWHERE = 4
_LONGEST_VALUE = 20_000
_DEEPEST = 20


class Concealed:
    """Values that a human filled in for a tool alone; finds them in texts in every notation.

    Texts of eight characters and more are found by any eight of them in a row, since a long value is often repeated
    in part; shorter ones as a whole; and those of less than four only where they stand by themselves. ``known`` are
    texts that are none of the human's, such as the names of a form's fields.
    """

    def __init__(self, values: Iterable[object], known: Iterable[str] = ()) -> None:
        names = frozenset(known)
        texts = {_folded(text) for value in values for text in _written(value, names)}
        texts.discard("")
        self._pieces = {piece for text in texts if len(text) >= _PIECE for piece in _pieces_of(text)}
        whole = sorted((text for text in texts if len(text) < _PIECE), key=len, reverse=True)
        alone = "|".join(
            re.escape(text) if len(text) >= _SHORTEST_ANYWHERE else rf"(?<!\w){re.escape(text)}(?!\w)" for text in whole
        )
        self._whole = re.compile(alone) if alone else None

    def __bool__(self) -> bool:
        return bool(self._pieces or self._whole)

    def hide(self, text: str) -> str:
        """Return the text without the values."""
        folded = _folded(text)
        hidden = bytearray(len(text))
        if self._pieces:
            for place in range(len(text) - _PIECE + 1):
                if folded[place : place + _PIECE] in self._pieces:
                    hidden[place : place + _PIECE] = b"\1" * _PIECE
        if self._whole is not None:
            for found in self._whole.finditer(folded):
                hidden[found.start() : found.end()] = b"\1" * (found.end() - found.start())
        if not any(hidden):
            return text
        return "".join(
            HIDDEN if is_hidden else "".join(text[place] for place in places)
            for is_hidden, places in groupby(range(len(text)), key=hidden.__getitem__)
        )


def _folded(text: str) -> str:
    """Return the text in lower case and as long as it was."""
    lower = text.lower()
    return (
        lower if len(lower) == len(text) else "".join(low if len(low := char.lower()) == 1 else char for char in text)
    )


def _pieces_of(text: str) -> Iterable[str]:
    if len(text) > _LONGEST_VALUE:
        text = text[:_LONGEST_VALUE] + text[-_LONGEST_VALUE:]
    return (text[place : place + _PIECE] for place in range(len(text) - _PIECE + 1))


def _written(value: object, known: frozenset[str], depth: int = 0) -> Iterator[str]:
    """Yield how a value, or any value in it, may be written."""
    if depth > _DEEPEST:
        return
    match value:
        case None | bool():
            return
        case str():
            yield from _encoded(value)
        case bytes() | bytearray():
            yield from _encoded(bytes(value).decode("utf-8", "replace"))
        case int() | float() if not isinstance(value, Enum):
            yield from (str(value), f"{value:,}", repr(value))
        case Mapping():
            inner = (*(key for key in value if str(key) not in known), *value.values())
            yield from chain.from_iterable(_written(each, known, depth + 1) for each in inner)
        case list() | tuple() | set() | frozenset():
            yield from chain.from_iterable(_written(each, known, depth + 1) for each in value)
        case _:
            yield from _written_object(value, known, depth)


def _written_object(value: object, known: frozenset[str], depth: int) -> Iterator[str]:
    secret = getattr(value, "get_secret_value", None)
    if callable(secret):
        yield from _written(secret(), known, depth + 1)
        return
    if isinstance(value, Enum):
        yield from _written((value.value, value.name), known, depth + 1)
    attributes = getattr(value, "__dict__", None)
    if attributes and not isinstance(value, Enum):
        yield from _written(tuple(attributes.values()), known, depth + 1)
    for how in (str, repr):
        text = write(value, how)
        if text is not None:
            yield from _encoded(text)


def _encoded(text: str) -> Iterator[str]:
    """Yield a text as it is and as it is in code, JSON, addresses and HTML."""
    yield from (text, text.strip(), repr(text)[1:-1], ascii(text)[1:-1])
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        return
    yield from (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1])
    yield from (quote(text), quote(text, safe=""), quote_plus(text), escape(text))
    if len(text) >= _SHORTEST_ANYWHERE:
        yield from (b64encode(raw).decode().rstrip("="), urlsafe_b64encode(raw).decode().rstrip("="), raw.hex())
