"""Points in time as parameters."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime, BeforeValidator

_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 9998
_NUMBER: Final = re.compile(r"\s*[+-]?[0-9_.]+\s*")


def _refuse_number(value: object) -> object:
    """Refuse a number, which pydantic takes for seconds since 1970: 2026 would be a moment of that year."""
    if isinstance(value, int | float) or (isinstance(value, str) and _NUMBER.fullmatch(value)):
        raise ValueError("must be a date with a time and an offset, such as 2026-01-31T12:00:00Z")
    return value


def _in_range(at: datetime) -> datetime:
    if not _FIRST_YEAR <= at.year <= _LAST_YEAR:
        raise ValueError(f"must be between the years {_FIRST_YEAR} and {_LAST_YEAR}")
    return at.astimezone(UTC)


Moment = Annotated[AwareDatetime, BeforeValidator(_refuse_number), AfterValidator(_in_range)]
