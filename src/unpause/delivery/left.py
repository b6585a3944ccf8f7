"""Remembers what this process leaves to others: messages whose secrets it cannot decrypt with the keys that it has.

While keys are rotated, nodes differ in them. No attempt is used up by one that could not make it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

_MAX_REMEMBERED = 10_000


class _Left(NamedTuple):
    """Until when, by the event loop's clock, and how often it was put off before."""

    until: float
    times: int


@dataclass
class LeftToOthers:
    """The messages that are left to others, for ``grace_seconds`` after they are due."""

    grace_seconds: float
    _left: OrderedDict[str, _Left] = field(default_factory=OrderedDict)

    def is_left(self, key: str, now: float) -> bool:
        """Whether others still have time to send it."""
        return key in self._left and now < self._left[key].until

    def leave(self, key: str, now: float) -> int | None:
        """Leave a message that is due to others; return how often nobody has sent it in that time, None at first."""
        before = self._left.get(key)
        times = 0 if before is None else before.times + 1
        self._remember(key, _Left(now + self.grace_seconds, times))
        return times or None

    def put_off(self, key: str, seconds: float) -> None:
        """Leave it to others for so much longer: that is when it is due again."""
        left = self._left[key]
        self._remember(key, left._replace(until=left.until + seconds))

    def _remember(self, key: str, left: _Left) -> None:
        self._left[key] = left
        self._left.move_to_end(key)
        if len(self._left) > _MAX_REMEMBERED:
            self._left.popitem(last=False)
