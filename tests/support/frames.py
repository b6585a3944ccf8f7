"""Server-sent events as a client reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Frame:
    """One event; ``id`` is None where the frame has none."""

    event: str
    id: str | None
    data: dict[str, Any]


def iterate_frames(lines: Iterable[str]) -> Iterator[Frame]:
    """Yield the events of a stream as they come; comments are left out."""
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield Frame(fields["event"], fields.get("id"), json.loads(fields["data"]))
            fields = {}


def read_data(text: str) -> list[dict[str, Any]]:
    """Return the data of all events of a stream, whether they have names or not."""
    return [json.loads(line.removeprefix("data: ")) for line in text.split("\n") if line.startswith("data: ")]


def read_frames(text: str) -> list[Frame]:
    """Return all events of a stream that has ended."""
    return list(iterate_frames(text.split("\n")))
