"""How long to wait before something that failed is tried again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIRST_SECONDS = 0.5
_LAST_SECONDS = 30.0


def delays() -> Iterator[float]:
    """Yield, without end, the seconds to wait before each further try: doubling from the first to the last."""
    delay = _FIRST_SECONDS
    while True:
        yield delay
        delay = min(2 * delay, _LAST_SECONDS)
