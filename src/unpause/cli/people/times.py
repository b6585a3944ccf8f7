"""Times as people read and write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from unpause.cli.exits import CommandFailed, Exit

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION: Final = re.compile(r"([0-9]{1,6})([smhd])")


def now() -> datetime:
    """Return the present moment."""
    return datetime.now(UTC)


def read_time(text: str | None) -> datetime | None:
    """Return a time of the server's answers."""
    return None if text is None else datetime.fromisoformat(text)


def age(text: str | None, at: datetime) -> str:
    """Return how long ago a time was, such as ``2m``."""
    moment = read_time(text)
    return "" if moment is None else span(at - moment)


def until(text: str | None, at: datetime) -> str:
    """Return when a time comes, such as ``in 58m``."""
    moment = read_time(text)
    if moment is None:
        return ""
    return f"in {span(moment - at)}" if moment > at else "now"


def span(length: timedelta) -> str:
    """Return a length of time in its largest unit."""
    seconds = max(0, int(length.total_seconds()))
    unit = next((unit for unit in "dhm" if seconds >= _SECONDS[unit]), "s")
    return f"{seconds // _SECONDS[unit]}{unit}"


def duration_of(text: str) -> timedelta | None:
    """Return the length of a duration such as ``90d``, ``12h`` or ``30m``; None for another text."""
    found = _DURATION.fullmatch(text)
    return timedelta(seconds=int(found[1]) * _SECONDS[found[2]]) if found else None


def moment_before(text: str | None, at: datetime) -> str | None:
    """Return a time for the server's parameters: so long ago, or this date; raise CommandFailed for another text."""
    return None if text is None else _moment(text, at, -1)


def moment_after(text: str | None, at: datetime) -> str | None:
    """Return a time for the server: in so long, or this date; raise CommandFailed for another text."""
    return None if text is None else _moment(text, at, 1)


def _moment(text: str, at: datetime, direction: int) -> str:
    length = duration_of(text)
    try:
        moment = at + direction * length if length is not None else datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise CommandFailed(f"{text!r} is not a time such as 1d, 12h, 30m or 2026-10-01", Exit.USAGE) from None
    # A time without a zone is one of this machine.
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
