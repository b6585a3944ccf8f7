"""Reads what an agent's iterators yield, also those within a result, as far as a result may be long."""

from __future__ import annotations

import asyncio
import copy
from collections import UserString
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel
from pydantic_ai.exceptions import ToolFailed

from unpause.domain.storable import DEEPEST, room_left

# As the record measures what it is given: what has more characters than this for each byte has no shorter form.
_CHARACTERS = 2
# What is further within is not kept.
_LEVELS = DEEPEST + 10
# Most of what is yielded, measured as ``room_left`` does.
_SIZED = frozenset({str, bytes})
_NUMBERS = frozenset({int, float, bool, type(None)})
# What is in these is no container, or one of the same kind.
_TEXTS = (str, bytes, bytearray, memoryview, UserString)


def too_large(max_bytes: int) -> str:
    """Return what the model is told of a result that was not kept."""
    return f"The tool has run, but its result was not kept: it has more than {max_bytes} bytes."


class TooLarge(ToolFailed):
    """What iterators yield is more than a result may have."""


class _Unreadable(Exception):
    """A container's own code failed."""


async def read_iterators(returned: object, max_bytes: int) -> object:
    """Return what a tool returned with a list in the place of each iterator, of what that yields.

    Other containers than Python's own may make what they hold as it is read, so they are read here, too, into lists and
    dicts. Raises TooLarge where that is more than ``max_bytes``, and reads no further. What an iterator raises is
    raised: it is the tool that still runs. The tool's own objects stay as they are.
    """
    if isinstance(returned, AsyncIterator):
        return await _Reader(max_bytes).read_async(returned)
    if _holds_iterator(returned, _CHARACTERS * max_bytes):
        return await asyncio.to_thread(_Reader(max_bytes).replaced, returned)
    return returned


class _Reader:
    """Reads the iterators of one result: all of them together no further than the result may be long."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._room = self._visits = _CHARACTERS * max_bytes

    async def read_async(self, iterator: AsyncIterator[Any]) -> list[Any]:
        try:
            return [self._take(item, 1) async for item in iterator]
        except BaseException:
            if isinstance(iterator, AsyncGenerator):
                with suppress(Exception):
                    await iterator.aclose()
            raise

    def replaced(self, value: Any, level: int = 0) -> Any:  # noqa: ANN401 - whatever a tool returns
        """Return the value, or a copy that has lists in the place of iterators."""
        self._visits -= 1
        if self._visits < 0:
            raise TooLarge(too_large(self._max_bytes))
        kind = type(value)
        if issubclass(kind, Iterator):
            return self._read(value, level + 1)
        if level > _LEVELS:
            return value
        if not _has_parts(kind):
            return self._read_container(value, level + 1) if _is_container(kind) else value
        old = _parts(value)
        new = {name: self.replaced(part, level + 1) for name, part in old.items()}
        return value if all(new[name] is part for name, part in old.items()) else _copy(value, new)

    def _read(self, iterator: Iterator[Any], level: int) -> list[Any]:
        try:
            return [self._take(item, level) for item in iterator]
        except BaseException:
            if isinstance(iterator, Generator):
                with suppress(Exception):
                    iterator.close()
            raise

    def _read_container(self, value: Any, level: int) -> Any:  # noqa: ANN401 - a mapping, sequence or set
        """Return what is in it; itself where its own code fails, to be kept as text."""
        items: list[tuple[Any, Any]] = []
        try:
            for key, item in _items(value):
                self._take(key, level)
                items.append((key, self._take(item, level)))
        except _Unreadable:
            return value
        return dict(items) if isinstance(value, Mapping) else [item for _, item in items]

    def _take(self, item: Any, level: int) -> Any:  # noqa: ANN401 - whatever a tool yields
        if type(item) in _SIZED:
            self._room -= 2 + len(item)
        elif type(item) in _NUMBERS:
            self._room -= 2
        else:
            item = self.replaced(item, level)
            if not _is_container(type(item)):
                # The fields of an object count one by one.
                self._room = room_left(list(_parts(item).values()) if _has_parts(type(item)) else item, self._room)
        if self._room < 0:
            raise TooLarge(too_large(self._max_bytes))
        return item


def _holds_iterator(returned: object, most: int) -> bool:
    """Whether an iterator, or a container that may be like one, is in it; looks at about so many values at the most."""
    level = [returned]
    for _ in range(_LEVELS):
        kinds = set(map(type, level))
        if any(issubclass(kind, Iterator) or _is_container(kind) for kind in kinds):
            return True
        nested = tuple(kind for kind in kinds if _has_parts(kind))
        most -= len(level)
        if not nested or most < 0:
            return False
        level = [part for value in level if isinstance(value, nested) for part in _parts(value).values()]
    return False


def _has_parts(kind: type) -> bool:
    return issubclass(kind, dict | list | tuple | BaseModel) or is_dataclass(kind)


def _is_container(kind: type) -> bool:
    """Whether it is a container of another kind than those above."""
    if kind in _NUMBERS or issubclass(kind, _TEXTS):
        return False
    return issubclass(kind, Mapping | Sequence | AbstractSet) and not _has_parts(kind)


def _items(container: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401 - a mapping, sequence or set
    """Yield what is in it, of a mapping by key; raise _Unreadable where its own code fails."""
    try:
        if isinstance(container, Mapping):
            for key in container:
                yield key, container[key]
        else:
            for item in container:
                yield None, item
    except Exception as error:  # the boundary around an author's container
        raise _Unreadable from error


def _parts(value: Any) -> dict[Any, Any]:  # noqa: ANN401 - what has parts
    """Return what is in a container or an object, by key, position or field."""
    match value:
        case dict():
            return value
        case list() | tuple():
            return dict(enumerate(value))
        case BaseModel():
            return {**value.__dict__, **(value.__pydantic_extra__ or {})}
        case _:
            return {field.name: getattr(value, field.name, None) for field in fields(value)}


def _copy(value: Any, parts: dict[Any, Any]) -> Any:  # noqa: ANN401 - what has parts
    match value:
        case dict():
            return parts
        case list() | tuple():
            return list(parts.values())
        case BaseModel():
            return value.model_copy(update=parts)
        case _:
            copied = copy.copy(value)
            for name, part in parts.items():
                object.__setattr__(copied, name, part)
            return copied
