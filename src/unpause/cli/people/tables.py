"""Tables that fit a terminal; on anything else, one line an item with tabs between complete values."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from unpause.cli.people.escapes import harmless

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_GAP: Final = "  "
_LONGEST_FIXED: Final = 20
_SHORTEST_FLEXIBLE: Final = 12


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading, and whether it takes the width that the others leave."""

    title: str
    is_flexible: bool = False


def plain_line(cells: Iterable[str]) -> str:
    """Return a line for programs: complete values with tabs between."""
    return "\t".join(map(harmless, cells))


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Return the heading and a line for each row, none wider than ``width``; what does not fit ends in an ellipsis."""
    cells = [[column.title for column in columns], *([harmless(cell) for cell in row] for row in rows)]
    widths = _widths(columns, cells, width)
    return [_line(row, widths, width) for row in cells]


def cut(text: str, width: int) -> str:
    """Return the text, cut to this many columns of a terminal."""
    if cell_width(text) <= width:
        return text
    kept = ""
    left = width - 1
    for char in text:
        left -= cell_width(char)
        if left < 0:
            break
        kept += char
    return f"{kept}…" if width > 0 else ""


def cell_width(text: str) -> int:
    """Return how many columns of a terminal the text takes."""
    return len(text) if text.isascii() else sum(map(_char_width, text))


def _char_width(char: str) -> int:
    if unicodedata.category(char) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1


def _widths(columns: Sequence[Column], cells: Sequence[Sequence[str]], width: int) -> list[int]:
    """Return the width of each column: at most that of its longest cell."""
    natural = [max(cell_width(row[place]) for row in cells) for place in range(len(columns))]
    widths = [
        wide if column.is_flexible else min(wide, _LONGEST_FIXED) for column, wide in zip(columns, natural, strict=True)
    ]
    excess = sum(widths) + len(_GAP) * (len(columns) - 1) - width
    # The widest flexible column gives first.
    for place in sorted(
        (place for place, column in enumerate(columns) if column.is_flexible), key=lambda at: -widths[at]
    ):
        taken = max(0, min(excess, widths[place] - _SHORTEST_FLEXIBLE))
        widths[place] -= taken
        excess -= taken
    return widths


def _line(row: Sequence[str], widths: Sequence[int], width: int) -> str:
    padded = (
        f"{text}{' ' * (wide - cell_width(text))}"
        for text, wide in ((cut(cell, wide), wide) for cell, wide in zip(row, widths, strict=True))
    )
    return cut(_GAP.join(padded).rstrip(), width)
