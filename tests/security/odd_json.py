"""Odd values: strategies for JSON that is almost what a client sends, and what is none.

The names of runs, sessions, approvals and tokens are placeholders (see `odd_requests.py`).
"""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any, Final, TypeAlias

from hypothesis import strategies as st

Json: TypeAlias = Any
Fields: TypeAlias = tuple[tuple[bytes, bytes], ...]

AGENT: Final = "fuzzed"
RUN: Final = "runrunrun"
SESSION: Final = "sessionsession"
APPROVAL: Final = "approvalapproval"
# A number, for it stands in JSON.
KEY: Final = 4242424242
ADMIN: Final = "tokenofadmin"
USER: Final = "tokenofuser"
STRANGER: Final = "tokenofstranger"

# What a client sends that decides all calls of the paused run.
TOOLS: Final = (
    {"tool_call_id": "delete", "tool_name": "delete", "tool_args": {"name": "a"}, "confirmed": True},
    {
        "tool_call_id": "fill",
        "tool_name": "fill",
        "tool_args": {"name": "a"},
        "confirmed": True,
        "user_input_schema": [{"name": "code", "value": "x", "field_type": "str"}],
    },
    {"tool_call_id": "shell", "tool_name": "shell", "tool_args": {"name": "a"}, "result": "done"},
)
# JSON as no program of good will writes it, and what is none.
FRAGMENTS: Final = (
    *("1e999", "-1e999", "1e-999", "NaN", "-Infinity", "1" * 400, "9" * 5000, "-0", "1.0", "0x1", "01", "2147483648"),
    *('"\\ud800"', '"\\udfff\\ud800"', '"\\u0000"', '"\x00"', '"\\x"', '"a', '"\\u12"', "'a'", "nul", "", "\ufeff1"),
    *("[" * 900 + "]" * 900, "[" * 20_000, "[" * 20_000 + "]" * 20_000, '{"a":' * 3000 + "1" + "}" * 3000),
    *('{"a": 1, "a": 2}', '{"tool_call_id": "delete", "tool_call_id": "fill"}', "{1: 2}", "[,]", "[1,]", "{}", "[]"),
    *('"' + "a" * 70_000 + '"', "[" + "0," * 20_000 + "0]", "null", "true", "\ud800", '"\U0010ffff\u202e"'),
)
_RAW: Final = "rawrawraw"


def any_text(most: int = 12) -> st.SearchStrategy[str]:
    """Return any characters but halves of surrogate pairs."""
    return st.text(st.characters(exclude_categories=["Cs"]), max_size=most)


def one_of(*values: Any) -> st.SearchStrategy[Any]:  # noqa: ANN401 - of whatever they are
    return st.sampled_from(values)


def once_in(times: int) -> st.SearchStrategy[bool]:
    return st.integers(1, times).map(lambda number: number == times)


any_numbers: Final = st.integers() | one_of(0, -1, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 10**400)
any_words: Final = one_of(
    "", "delete", "fill", "shell", RUN, SESSION, APPROVAL, "1", "true", "\x00", "../..", "a" * 300
)
any_values: Final = st.recursive(
    st.none() | st.booleans() | any_numbers | st.floats(allow_nan=False, allow_infinity=False) | any_text() | any_words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text(4), inner, max_size=3),
    max_leaves=5,
)


def _places(value: Json, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path to everything within the value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, found in inner for place in ((*above, key), *_places(found, (*above, key)))]


@st.composite
def odd_json(draw: st.DrawFn, template: Json) -> str:
    """Return the template as JSON, mostly with something of it exchanged, missing, twice or broken."""
    value = deepcopy(template)
    fragment = ""
    for _ in range(draw(one_of(0, 1, 1, 1, 2, 3))):
        places = _places(value)
        if not places:
            break
        *above, last = draw(st.sampled_from(places))
        holder = value
        for step in above:
            holder = holder[step]
        match draw(one_of("exchange", "exchange", "fragment", "drop", "add", "double")):
            case "exchange":
                holder[last] = draw(any_values)
            case "fragment":
                fragment, holder[last] = draw(st.sampled_from(FRAGMENTS)), _RAW
            case "drop":
                del holder[last]
            case "add" if isinstance(holder, dict):
                holder[draw(any_text(6) | any_words)] = draw(any_values)
            case _:
                holder[last] = [deepcopy(holder[last])] * draw(one_of(1, 2, 300))
    return draw(broken_off(json.dumps(value, ensure_ascii=draw(st.booleans())).replace(f'"{_RAW}"', fragment)))


@st.composite
def broken_off(draw: st.DrawFn, text: str) -> str:
    """Return the text, now and then not all of it, or too much."""
    match draw(one_of(*["whole"] * 8, "cut", "fragment", "twice")):
        case "cut":
            return text[: draw(st.integers(0, len(text)))]
        case "fragment":
            return draw(st.sampled_from(FRAGMENTS))
        case "twice":
            return text * 2
        case _:
            return text


odd_tools: Final = odd_json(list(TOOLS)) | odd_json(list(TOOLS[:1])) | one_of(json.dumps(TOOLS), json.dumps(TOOLS[:1]))


def bytes_of(text: str) -> bytes:
    """Return the text as UTF-8, with halves of surrogate pairs as they are, which is none."""
    return text.encode("utf-8", "surrogatepass")
