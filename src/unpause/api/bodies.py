"""Reads JSON bodies as RFC 8259 has them: no NaN, no infinity, no half of a surrogate pair, no bottomless nesting."""

from __future__ import annotations

import re
from json import JSONDecodeError
from typing import Any

from pydantic_core import from_json, to_json
from starlette.requests import Request

# Where there is none of these, no number is too large for a float.
_LARGE = re.compile(rb"[eE]\+?0*[0-9]{3}|[0-9]{200}")


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401 - whatever was sent
    """Return what the text says; raise ValueError for what is no JSON, or has a number that is too large to be kept."""
    value = from_json(text, allow_inf_nan=False)
    if _LARGE.search(text.encode(errors="replace") if isinstance(text, str) else text):
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
