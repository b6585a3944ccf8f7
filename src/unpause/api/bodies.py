"""Reads JSON bodies as RFC 8259 has them: no NaN, no infinity, no half of a surrogate pair, no bottomless nesting."""

from __future__ import annotations

from json import JSONDecodeError
from typing import Any

from pydantic_core import from_json
from starlette.requests import Request


class StrictRequest(Request):
    """A request whose JSON can be stored and answered again: Python's own parser lets through what cannot."""

    async def json(self) -> Any:  # noqa: ANN401 - whatever was sent
        """Return what the body says; raise JSONDecodeError, which FastAPI answers with 422."""
        try:
            return from_json(await self.body(), allow_inf_nan=False)
        except ValueError as error:
            raise JSONDecodeError(str(error), "", 0) from None
