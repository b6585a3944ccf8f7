"""How commands print: a table or text on a terminal, plain lines elsewhere, JSON, or ids alone."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from unpause.cli.people.escapes import harmless, harmless_json, harmless_lines
from unpause.cli.people.tables import Column, plain_line, table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unpause.cli.people.errors import JsonObject

_BOLD: Final = "\x1b[1m"
_PLAIN: Final = "\x1b[0m"
# To the corner, and clear from there on.
_HOME: Final = "\x1b[H\x1b[J"
_FULL_ID: Final = 36
_SHORTEST_ID: Final = 4


class Form(Enum):
    """What is printed."""

    TEXT = "text"
    JSON = "json"
    IDS = "ids"


@dataclass(frozen=True, slots=True)
class Listing:
    """How a list is printed: the key of its items' ids, its other columns, and what an empty one says."""

    id_key: str
    columns: Sequence[Column]
    cells: Callable[[JsonObject], Sequence[str]]
    empty: str


class Printer:
    """Standard output of one command. Whatever it prints is harmless for a terminal."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.is_terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._has_styles = self.is_terminal and not os.environ.get("NO_COLOR")

    @property
    def width(self) -> int:
        """The terminal's columns."""
        return shutil.get_terminal_size().columns

    def list(self, listing: Listing, items: Sequence[JsonObject]) -> None:
        """Print a list."""
        if self.form is Form.JSON:
            self._write(harmless_json(items, indent=2))
        elif self.form is Form.IDS:
            self.ids(*(item[listing.id_key] for item in items))
        elif not self.is_terminal:
            self._write(*(plain_line([item[listing.id_key], *listing.cells(item)]) for item in items))
        elif not items:
            self._write(listing.empty)
        else:
            self._write(*self._table(listing, items))

    def repaint(self, listing: Listing, items: Sequence[JsonObject], heading: str) -> None:
        """Replace what the terminal shows by a list; what is below its last line is cut."""
        lines = self._table(listing, items) if items else [listing.empty]
        height = shutil.get_terminal_size().lines - 2
        _write("".join(f"{line}\n" for line in [f"{_HOME}{harmless(heading)}", *lines[:height]]))

    def ids(self, *ids: str) -> None:
        """Print ids."""
        self._write(*map(harmless, ids))

    def text(self, *lines: str) -> None:
        """Print lines of text, unless it is JSON or ids that are printed."""
        if self.form is Form.TEXT:
            self._write(*map(harmless_lines, lines))

    def piece(self, text: str) -> None:
        """Print a piece of a text, at once."""
        _write(harmless_lines(text))

    def json(self, value: object, indent: int | None = 2) -> None:
        """Print JSON."""
        self._write(harmless_json(value, indent))

    def object(self, item: JsonObject, item_id: str, *lines: str) -> None:
        """Print one object: as JSON, its id, or these lines."""
        if self.form is Form.JSON:
            self.json(item)
        elif self.form is Form.IDS:
            self.ids(item_id)
        else:
            self.text(*lines)

    def _table(self, listing: Listing, items: Sequence[JsonObject]) -> Sequence[str]:
        shown = short_ids([item[listing.id_key] for item in items])
        rows = [[name, *listing.cells(item)] for name, item in zip(shown, items, strict=True)]
        heading, *lines = table([Column("ID"), *listing.columns], rows, self.width)
        return [f"{_BOLD}{heading}{_PLAIN}" if self._has_styles else heading, *lines]

    def _write(self, *lines: str) -> None:
        _write("".join(f"{line}\n" for line in lines))


def _write(text: str) -> None:
    # A character that the terminal's encoding lacks must not end the command.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def short_ids(ids: Sequence[str]) -> list[str]:
    """Return the shortest beginnings of these ids that tell them apart, all of one length."""
    length = _SHORTEST_ID
    while length < _FULL_ID and len({one[:length] for one in ids}) < len(set(ids)):
        length += 1
    return [one[:length] for one in ids]
