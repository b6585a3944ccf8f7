"""Reads JSON bodies as RFC 8259 has them: no NaN, no infinity, no half of a surrogate pair, no bottomless nesting."""

from __future__ import annotations

import re
from json import JSONDecodeError
from typing import Any

from pydantic_core import from_json, to_json
from starlette.requests import Request

from unpause.domain.storable import DEEPEST, is_nested_deeper

# Clients send calls back as they were shown, with their own JSON around the arguments.
_DEEPEST = DEEPEST + 10
# Where there is none of these, no number is too large for a float.
_LARGE = re.compile(rb"[eE]\+?0*[0-9]{3}|[0-9]{200}")


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401 - whatever was sent
    """Return what the text says; raise ValueError for what is no JSON, or cannot be kept.

    That is a number which is too large, and nesting of more than 110 levels.
    """
    value = from_json(text, allow_inf_nan=False)
    data = text.encode(errors="replace") if isinstance(text, str) else text
    if data.count(b"[") + data.count(b"{") > _DEEPEST and is_nested_deeper(value, _DEEPEST):
        raise ValueError(f"nested in more than {_DEEPEST} levels")
    if _LARGE.search(data):
        # The parser itself takes 1e999 for infinity.
        from_json(to_json(value, inf_nan_mode="constants"), allow_inf_nan=False)
    return value


class StrictRequest(Request):
    """A request whose JSON can be stored and answered again: Python's own parser lets through what cannot."""

    async def json(self) -> Any:  # noqa: ANN401 - whatever was sent
        """Return what the body says; raise JSONDecodeError, which FastAPI answers with 422."""
        try:
            return parse_json(await self.body())
        except ValueError as error:
            raise JSONDecodeError(str(error), "", 0) from None
