"""Lengths of time as people write them: ``90d``, ``12h``, ``30m``, ``45s``."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
# Nothing in a database is older.
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION: Final = re.compile(r"([0-9]{1,6})([smhd])")


def parse_duration(text: str) -> timedelta:
    """Return the length of time; raise ValueError for another text, and for none at all."""
    found = _DURATION.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise ValueError(f"{text!r} is not a duration such as 90d, 12h or 30m")
    return timedelta(seconds=int(found[1]) * SECONDS[found[2]])


def duration_text(length: timedelta) -> str:
    """Return the length in its largest unit, rounded down."""
    seconds = max(0, int(length.total_seconds()))
    unit = next((unit for unit in "dhm" if seconds >= SECONDS[unit]), "s")
    return f"{seconds // SECONDS[unit]}{unit}"


def moment_ago(now: datetime, length: timedelta) -> datetime:
    """Return the moment so long ago; a length of more than the years since 1970 makes no difference."""
    return now - length if length < now - _BEGINNING else _BEGINNING
