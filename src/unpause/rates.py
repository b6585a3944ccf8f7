"""Limits of requests in a window of time, as operators write them: ``10/minute``, ``60/30 seconds``, ``5 per hour``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_UNITS: Final = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86_400,
    "month": 30 * 86_400,
    "year": 360 * 86_400,
}
_RATE: Final = re.compile(r"([0-9]+)\s*(?:/|per)\s*([0-9]+)?\s*([a-z]+?)s?", re.IGNORECASE)
_SEPARATOR: Final = re.compile("[,;|]")
_LARGEST: Final = 1_000_000_000
_LONGEST_SECONDS: Final = 366 * 86_400


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in a window of so many units."""

    amount: int
    count: int
    unit: str

    @property
    def seconds(self) -> int:
        """The length of the window."""
        return self.count * _UNITS[self.unit]

    def key(self, *names: str) -> str:
        """Return what a window's requests are counted under: with another limit, the count starts anew."""
        return "/".join(("LIMITER", *names, str(self.amount), str(self.count), self.unit))


def parse_rate(text: str) -> Rate | None:
    """Return what the text allows, or None for an empty one; raise ValueError."""
    if not text.strip():
        return None
    if _SEPARATOR.search(text):
        raise ValueError(f"{text!r} has several limits; only one is possible")
    found = _RATE.fullmatch(text.strip())
    if found is None or found[3].lower() not in _UNITS:
        raise ValueError(f"{text!r} is not a limit such as 10/minute or 60/30 seconds")
    rate = Rate(int(found[1]), int(found[2] or 1) or 1, found[3].lower())
    if not 1 <= rate.amount <= _LARGEST:
        raise ValueError(f"{text!r} allows {rate.amount} requests; 1 to {_LARGEST} are possible")
    if rate.seconds > _LONGEST_SECONDS:
        raise ValueError(f"{text!r} has a window of more than a year")
    return rate
