"""Values that a human filled in, found in texts however they are written there."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from urllib.parse import quote

import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from unpause.agents.concealed import Concealed
from unpause.agents.redaction import Redaction


class Level(enum.Enum):
    """A choice."""

    HIGHEST = "top-most"


class Card(BaseModel):
    """A nested value."""

    number: str


@dataclass
class Pin:
    """A nested value."""

    digits: int


SECRET = "Kö/ni g+1&'"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (SECRET, f"refused: {SECRET}"),
        (SECRET, f"refused: {SECRET.upper()}"),
        (SECRET, f"refused: {SECRET!r}"),
        (SECRET, "refused: https://host/?q=" + quote(SECRET, safe="")),
        ("K\u00f6nig", r"refused: K\u00f6nig"),
        ("hunter2", "refused: HUNTER2hunter2"),
        ("correct horse battery", "refused: correct horse…battery"),
        (SecretStr("hunter2"), "refused: hunter2"),
        ({"deep": [{"a": ("hunter2",)}]}, "refused: hunter2"),
        (Card(number="4111 1111"), "refused: 4111 1111"),
        ([Pin(4711)], "refused: 4711 or 4,711"),
        (4711, "refused: 4,711"),
        (date(2024, 5, 17), "refused: datetime.date(2024, 5, 17), 2024-05-17"),
        (datetime(2024, 5, 17, 8, tzinfo=UTC), "refused: 2024-05-17 08:00:00+00:00"),
        (Decimal("10.25"), "refused: Decimal('10.25')"),
        (Level.HIGHEST, "refused: Level.HIGHEST, top-most"),
        (b"hunter2", "refused: b'hunter2'"),
        ("hunter22", "refused: aHVudGVyMjI="),
        ("7", "refused: 7"),
    ],
)
def test_a_value_is_not_left_in_a_text(value: object, text: str) -> None:
    hidden = Concealed([value]).hide(text)
    assert hidden.startswith("refused: ")
    assert "[hidden]" in hidden
    left = hidden.replace("[hidden]", "").removeprefix("refused: ")
    assert len([char for char in left if char.isalnum()]) <= len("battery") + 8, left
    for piece in (
        "hunter2",
        "HUNTER2",
        "4711",
        "4,711",
        "2024",
        "10.25",
        "HIGHEST",
        "top-most",
        "aHV",
        "4111",
        "horse",
    ):
        assert piece not in hidden


def test_what_a_library_cuts_out_of_a_long_value_is_hidden_too() -> None:
    value = "correct-horse-battery-staple-" * 4
    with pytest.raises(ValidationError) as caught:
        Card.model_validate({"number": [value]})
    assert "correct-" in str(caught.value)
    assert "correct-" not in Concealed([value]).hide(str(caught.value))
    assert "staple" not in Concealed([value]).hide(str(caught.value))


def test_short_values_are_hidden_only_where_they_stand_alone() -> None:
    assert Concealed(["a", 7]).hide("a cat has 7 lives, 17 at most") == "[hidden] cat has [hidden] lives, 17 at most"


def test_truths_empty_texts_and_the_names_of_fields_are_no_values() -> None:
    assert not Concealed([None, True, False, "", [], {}])
    assert Concealed([{"number": "hunter2"}], ["number"]).hide("number hunter2") == "number [hidden]"


def test_what_cannot_be_written_is_no_obstacle() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    loop: list[object] = []
    loop.append(loop)
    assert Concealed([Broken(), loop, "\ud800 hunter2"]).hide("hunter2 \ud800 hunter2") == "hunter2 [hidden]"


def test_a_redaction_hides_them_beside_its_own_secrets_and_the_first_one_does_not_learn_them() -> None:
    plain = Redaction({"API_KEY": "from-the-environment"})
    both = plain.concealing(Concealed(["hunter2"]))
    assert both.hide("hunter2 from-the-environment") == "[hidden] [hidden]"
    assert plain.hide("hunter2") == "hunter2"
    assert plain.concealing(Concealed([])) is plain
