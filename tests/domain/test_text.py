"""U+0000 is found wherever it hides, and replaced without touching anything else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unpause.domain.requirements import OnExpire
from unpause.domain.runs import Image, RunInput
from unpause.domain.text import refuse_nul, replace_nul
from unpause.errors import InvalidInput

_TEXT = st.text(alphabet="a\0\ufffd\\u0", max_size=4)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
)


@given(_JSON)
def test_what_is_replaced_is_what_would_be_refused(value: Any) -> None:  # noqa: ANN401
    replaced = replace_nul(value)
    refuse_nul(replaced)
    if "\0" in _characters(value):
        with pytest.raises(InvalidInput):
            refuse_nul(1, value)
        assert replaced != value
    else:
        refuse_nul(value)
        assert replaced is value


def _characters(value: Any) -> str:  # noqa: ANN401
    """Return the text of all strings of a JSON value together."""
    found: list[str] = []
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            found.append(item)
        elif isinstance(item, list):
            stack += item
        elif isinstance(item, dict):
            stack += [*item, *item.values()]
    return "".join(found)


def test_dataclasses_and_tuples_stay_what_they_are() -> None:
    given_input = RunInput(3, "a\0", (Image("image/png", "b\0"), Image("c", "d")), consumed=True)
    replaced = replace_nul(given_input)
    assert replaced == RunInput(3, "a\ufffd", (Image("image/png", "b\ufffd"), Image("c", "d")), consumed=True)
    assert replaced.images[1] is given_input.images[1]


def test_words_of_an_enumeration_are_left_alone() -> None:
    replaced = replace_nul([OnExpire.CANCEL, "\0"])
    assert replaced[0] is OnExpire.CANCEL
