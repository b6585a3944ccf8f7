"""No text of a model, a tool or another person steers the terminal that shows it."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unpause.cli.people.escapes import harmless, harmless_json, harmless_lines
from unpause.cli.people.tables import Column, cell_width, plain_line, table

_STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_TEXTS = st.text(st.characters(codec=None), max_size=40)


def steering(text: str, allowed: str = "") -> set[str]:
    """Return the characters of the text that could steer a terminal."""
    return {char for char in text if unicodedata.category(char) in _STEERING and char not in allowed}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\u202eb\u2066c", r"a\u202eb\u2066c"),
        ("a\rb\nc\td\x00", r"a\rb\nc\td\x00"),
        ("\udc9b", r"\udc9b"),
        ("\U000e0041", r"\U000e0041"),
        ("line\u2028line", r"line\u2028line"),
        ("grün 😀 \\x1b", "grün 😀 \\x1b"),
    ],
)
def test_characters_that_steer_a_terminal_are_shown_as_python_writes_them(text: str, shown: str) -> None:
    assert harmless(text) == shown


@given(_TEXTS)
def test_nothing_that_is_printed_steers_a_terminal(text: str) -> None:
    assert not steering(harmless(text))
    assert not steering(harmless_lines(text), "\n\t\u200c\u200d")
    assert not steering(harmless_json({text: [text]}, indent=2), "\n")
    assert not steering(plain_line([text, text]), "\t")
    assert not steering("".join(table([Column("A"), Column("B", is_flexible=True)], [[text, text]], 30)))


@given(_TEXTS)
def test_json_keeps_the_value(text: str) -> None:
    assert json.loads(harmless_json({"value": text})) == {"value": text}


@given(st.lists(st.tuples(_TEXTS, _TEXTS, _TEXTS), max_size=4), st.integers(20, 100))
def test_no_line_of_a_table_is_wider_than_the_terminal(rows: list[tuple[str, str, str]], width: int) -> None:
    columns = [Column("ID"), Column("CALL", is_flexible=True), Column("STARTED BY")]
    assert all(cell_width(line) <= width for line in table(columns, rows, width))


def test_a_column_that_can_shrink_leaves_the_others_their_width() -> None:
    columns = [Column("ID"), Column("CALL", is_flexible=True), Column("EXPIRES")]
    assert table(columns, [["7f3a", f"restart({'x' * 80})", "in 58m"]], 40) == [
        "ID    CALL                       EXPIRES",
        "7f3a  restart(xxxxxxxxxxxxxxxx…  in 58m",
    ]


def test_wide_characters_take_two_columns() -> None:
    columns = [Column("A"), Column("B")]
    assert table(columns, [["日本", "b"], ["abcd", "c"]], 40) == ["A     B", "日本  b", "abcd  c"]
