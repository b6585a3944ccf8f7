"""Bodies are read as JSON and as forms have them, whatever their size; what is too much of it is refused."""

from __future__ import annotations

import json
from urllib.parse import parse_qsl, unquote_to_bytes, urlencode

import pytest
from starlette.types import Message

from unpause.api.json import MAX_VALUES, JsonTooLarge, RepeatedKey, StrictRequest, _unquoted, parse_json

SPACE = " " * 100_000
LONG = "x" * 100_000


@pytest.mark.parametrize("space", ["", SPACE])
@pytest.mark.parametrize("text", ["1e999", "-1e400", '{"a": [1, {"b": 1e999}]}', "NaN", "[Infinity]", "[1", ""])
def test_what_is_no_json_is_refused_at_any_length(text: str, space: str) -> None:
    for content in (text + space, (text + space).encode()):
        with pytest.raises(ValueError):  # noqa: PT011 - whichever: a route says what is wrong
            parse_json(content)


@pytest.mark.parametrize("space", ["", SPACE])
@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[0, {"b": {"a": 1, "ü": 2, "\\u0061": 3}}]', '{"": 0, "": 1}'])
def test_a_key_that_stands_twice_in_an_object_is_refused_at_any_length(text: str, space: str) -> None:
    for content in (text + space, (text + space).encode()):
        with pytest.raises(RepeatedKey):
            parse_json(content)


@pytest.mark.parametrize("space", ["", SPACE])
@pytest.mark.parametrize(
    "value",
    [
        1e308,
        [{"a": 1}, {"a": {"a": 1}}],
        "1e999",
        ["Infinity", 12],
        {"ü": [None, True, "\\", '"', '\\"', "[,{"]},
    ],
)
def test_what_is_json_is_read_at_any_length(value: object, space: str) -> None:
    assert parse_json(json.dumps(value) + space) == value


@pytest.mark.parametrize(
    "text",
    [f"[{'0,' * MAX_VALUES}0]", "[" * 10 + "[]," * MAX_VALUES, '{"a":[' + '"\\\\",' * MAX_VALUES, '"\\"",' * 10**5],
)
def test_more_values_than_anybody_needs_are_refused(text: str) -> None:
    with pytest.raises(JsonTooLarge):
        parse_json(text)


@pytest.mark.parametrize("text", ["0,[{" * MAX_VALUES, '\\",[{' * MAX_VALUES, "\\" * MAX_VALUES, "\\,"])
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


@pytest.mark.parametrize("body", ["a", "a=1&&b=2&", "a=%", "a=%4", "a=%zz%41", "=1", "a==", "a=b=c", "&" * 500])
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


def test_escapes_of_a_form_are_read_as_the_standard_library_reads_them() -> None:
    texts = (b"%41%ff%0a%25", b"%", b"%4", b"%zz%41", b"\\x41%5c%0\\", b"\xe9%C3%A9", b"%%41\\\n")
    for text in texts:
        assert _unquoted(text) == unquote_to_bytes(text)
