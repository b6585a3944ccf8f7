"""Bodies are read as JSON and as forms have them, whatever their size; what is too much of it is refused."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, urlencode

import pytest
from starlette.types import Message

from unpause.api.json import MOST_VALUES, JsonTooLarge, StrictRequest, parse_json

SPACE = " " * 100_000
LONG = "x" * 100_000


@pytest.mark.parametrize("space", ["", SPACE])
@pytest.mark.parametrize("text", ["1e999", "-1e400", '{"a": [1, {"b": 1e999}]}', "NaN", "[Infinity]", "[1", ""])
def test_what_is_no_json_is_refused_at_any_length(text: str, space: str) -> None:
    for content in (text + space, (text + space).encode()):
        with pytest.raises(ValueError):  # noqa: PT011 - whichever: a route says what is wrong
            parse_json(content)


@pytest.mark.parametrize("space", ["", SPACE])
@pytest.mark.parametrize("value", [1e308, "1e999", ["Infinity", 12], {"ü": [None, True, "\\", '"', '\\"', "[,{"]}])
def test_what_is_json_is_read_at_any_length(value: object, space: str) -> None:
    assert parse_json(json.dumps(value) + space) == value


@pytest.mark.parametrize(
    "text",
    [f"[{'0,' * MOST_VALUES}0]", "[" * 10 + "[]," * MOST_VALUES, '{"a":[' + '"\\\\",' * MOST_VALUES, '"\\"",' * 10**5],
)
def test_more_values_than_anybody_needs_are_refused(text: str) -> None:
    with pytest.raises(JsonTooLarge):
        parse_json(text)


@pytest.mark.parametrize("text", ["0,[{" * MOST_VALUES, '\\",[{' * MOST_VALUES, "\\" * MOST_VALUES, "\\,"])
def test_what_stands_in_a_text_is_no_value(text: str) -> None:
    assert parse_json(json.dumps([text, LONG, text])) == [text, LONG, text]


FORMS = [
    {"a": "1"},
    {"a": "ä&=+% \0", "b c": "", "": "x"},
    {"a": LONG, "b": "ü" * 50_000, "c": "%" * 50_000, "d": "+ " * 50_000},
    {"a": "\U0001f600" * 30_000},
]


@pytest.mark.parametrize("form", FORMS, ids=range(len(FORMS)))
@pytest.mark.parametrize("piece", [7, 20_000, 10_000_000])
async def test_a_url_encoded_form_is_read_whatever_pieces_it_comes_in(form: dict[str, str], piece: int) -> None:
    body = urlencode(form).encode()
    if piece == 7 and len(body) > 1000:
        return
    assert dict(await request_of(body, piece).form()) == form


@pytest.mark.parametrize("body", ["a", "a=1&&a=2&", "a=%", "a=%4", "a=%zz%41", "=1", "a==", "a=b=c", "&" * 500])
async def test_odd_forms_are_read_as_others_read_them(body: str) -> None:
    found = await request_of(body.encode(), 100).form()
    assert found.multi_items() == parse_qsl(body, keep_blank_values=True)


def request_of(body: bytes, piece: int) -> StrictRequest:
    """Return a request with the body in pieces of so many bytes."""
    pieces = [body[start : start + piece] for start in range(0, len(body), piece)]

    async def receive() -> Message:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    fields = [(b"content-type", b"application/x-www-form-urlencoded")]
    return StrictRequest({"type": "http", "method": "POST", "headers": fields}, receive)
