"""Times as people read and write them."""

from __future__ import annotations

from datetime import UTC, datetime

from unpause.cli.exits import CommandFailed, Exit
from unpause.durations import SECONDS, duration_text, parse_duration


def now() -> datetime:
    """Return the present moment."""
    return datetime.now(UTC)


def read_time(text: str | None) -> datetime | None:
    """Return a time of the server's answers."""
    return None if text is None else datetime.fromisoformat(text)


def age(text: str | None, at: datetime) -> str:
    """Return how long ago a time was, such as ``2m``."""
    moment = read_time(text)
    return "" if moment is None else duration_text(at - moment)


def until(text: str | None, at: datetime) -> str:
    """Return when a time comes, such as ``in 58m``."""
    moment = read_time(text)
    if moment is None:
        return ""
    return f"in {duration_text(moment - at)}" if moment > at else "now"


def moment_before(text: str | None, at: datetime) -> str | None:
    """Return a time for the server's parameters: so long ago, or this date; raise CommandFailed for another text."""
    return None if text is None else _moment(text, at, -1)


def moment_after(text: str | None, at: datetime) -> str | None:
    """Return a time for the server: in so long, or this date; raise CommandFailed for another text."""
    return None if text is None else _moment(text, at, 1)


def _moment(text: str, at: datetime, direction: int) -> str:
    try:
        moment = at + direction * parse_duration(text) if text[-1:] in SECONDS else datetime.fromisoformat(text)
        # A time without a zone is one of this machine.
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise CommandFailed(f"{text!r} is not a time such as 1d, 12h, 30m or 2026-10-01", Exit.USAGE) from None
    return moment.isoformat().replace("+00:00", "Z")
