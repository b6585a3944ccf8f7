"""What cannot be stored is found wherever it hides, and replaced without touching anything else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unpause.domain.requirements import OnExpire
from unpause.domain.runs import Image, RunInput
from unpause.domain.storable import (
    is_longer,
    is_nested_deeper,
    refuse_unstorable,
    replace_unstorable,
    replace_unstorable_numbers,
)
from unpause.errors import InvalidInput

_TEXT = st.text(alphabet="a\0\ufffd\\u0\ud83d\ude00", max_size=4)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
)


@given(_JSON)
def test_what_is_replaced_is_what_would_be_refused(value: Any) -> None:  # noqa: ANN401
    replaced = replace_unstorable(value)
    refuse_unstorable(replaced)
    _characters(replaced).encode()
    if set(_characters(value)) & set("\0\ud83d\ude00"):
        with pytest.raises(InvalidInput):
            refuse_unstorable(1, value)
        assert replaced != value
    else:
        refuse_unstorable(value)
        assert replaced is value


def test_halves_of_a_pair_are_joined_and_others_replaced() -> None:
    given_text = {"a\ud83d": ["x\ud83d\ude00y", "\ude00\ud83d", "\ud83d\ud83d\ude00"]}
    assert replace_unstorable(given_text) == {"a\ufffd": ["x\U0001f600y", "\ufffd\ufffd", "\ufffd\U0001f600"]}


def test_numbers_that_json_lacks_become_words_and_the_words_stay() -> None:
    value = {"a": [float("nan"), float("inf"), float("-inf"), 1e300], "b": "NaN"}
    assert replace_unstorable_numbers(value) == {"a": ["NaN", "Infinity", "-Infinity", 1e300], "b": "NaN"}
    words = ["NaN", "Infinity"]
    assert replace_unstorable_numbers(words) is words


def test_depth_counts_objects_and_arrays() -> None:
    value: Any = "x"
    for level in range(100):
        value = [value] if level % 2 else {"a": value}
    assert not is_nested_deeper(value)
    assert is_nested_deeper([1, "x", {"a": value}])
    assert not is_nested_deeper("x", 0)


@pytest.mark.parametrize(
    "value", ["x" * 100, ["x" * 10] * 9, {"k" * 40: "v" * 60}, list(range(50)), {"a": {"b": "x" * 95}}]
)
def test_what_is_longer_is_seen_without_writing_it(value: object) -> None:
    assert is_longer(value, 90)
    assert not is_longer(value, 200)


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
    replaced = replace_unstorable(given_input)
    assert replaced == RunInput(3, "a\ufffd", (Image("image/png", "b\ufffd"), Image("c", "d")), consumed=True)
    assert replaced.images[1] is given_input.images[1]


def test_words_of_an_enumeration_are_left_alone() -> None:
    replaced = replace_unstorable([OnExpire.CANCEL, "\0"])
    assert replaced[0] is OnExpire.CANCEL
