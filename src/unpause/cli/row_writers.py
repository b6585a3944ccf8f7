"""Writes rows as CSV or JSON lines, one after the other."""

from __future__ import annotations

import csv
import json
from typing import IO, TYPE_CHECKING, Any, Final

from unpause.cli.people.escapes import harmless_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# What spreadsheets take for the beginning of a formula, also in its full-width form.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def write_json_lines(file: IO[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON object a line."""
    for row in rows:
        file.write(harmless_json(row) + "\n")


def write_csv(file: IO[str], rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> None:
    """Write a line of names and one for each row, as in RFC 4180."""
    names = list(columns)
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_cell(row[name]) for name in names])


def _cell(value: object) -> str:
    """Return the value as a spreadsheet shows it, and never runs it."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return f"'{text}" if text.startswith(_FORMULA) else text
