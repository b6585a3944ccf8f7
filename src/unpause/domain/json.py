"""JSON as the database and agent processes get it: compact, UTF-8, and never anything that is not JSON."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import from_json, to_json


def encode_json(value: object) -> bytes:
    """Return the value as one line of JSON; datetimes in ISO 8601, bytes in base64, NaN and the infinities as text."""
    return to_json(value, inf_nan_mode="strings", bytes_mode="base64")


def dump_json(value: object) -> str:
    """Return what ``encode_json`` does, as text."""
    return encode_json(value).decode()


def load_json(text: str | bytes) -> Any:  # noqa: ANN401 - whatever a driver or client calls JSON
    """Return the value of the text, which may be anything that ``encode_json`` ever wrote."""
    try:
        return from_json(text)
    except ValueError:
        # It writes what is nested deeper than it reads, and numbers with more digits.
        return json.loads(text, parse_int=_read_int)


def _read_int(digits: str) -> int | str:
    try:
        return int(digits)
    except ValueError:
        return digits
