"""Reads server-sent events from the bytes of a response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from unpause.cli.people.errors import read_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Frame:
    """An event: its name, its number or None, and its data. A keep-alive has an empty name."""

    name: str
    id: str | None
    data: dict[str, Any]


# A frame has a run's whole output at most; what is no Unpause server may never end one.
_MOST_BYTES: Final = 256 * 1024 * 1024

KEEP_ALIVE = Frame("", None, {})


def read_frames(chunks: Iterable[bytes]) -> Iterator[Frame]:
    """Yield the frames; one that is cut off at the end is left out.

    Raise ValueError for other data than objects, and for a frame that is too long.
    """
    fields: dict[str, str] = {}
    size = 0
    for line in _lines(chunks):
        size = size + len(line) if line else 0
        _check_size(size)
        if not line:
            if "data" in fields:
                yield Frame(fields.get("event", "message"), fields.get("id"), read_object(fields["data"]))
            fields = {}
        elif line.startswith(":"):
            yield KEEP_ALIVE
        else:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and name in fields else value


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield the lines. Only a line feed ends one: JSON may contain Unicode's other line ends."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        _check_size(len(rest))
        for line in lines:
            yield line.removesuffix(b"\r").decode("utf-8", "replace")


def _check_size(size: int) -> None:
    if size > _MOST_BYTES:
        raise ValueError("a frame is too long")
