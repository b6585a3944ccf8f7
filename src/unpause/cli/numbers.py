"""Whole numbers as arguments: ids and limits."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, Token

if TYPE_CHECKING:
    from collections.abc import Sequence

# All that a database compares with its ids.
_WHOLE = re.compile(r"-?[0-9]{1,18}")


def _whole(_: Any, words: Sequence[Token]) -> int:  # noqa: ANN401 - cyclopts passes the type
    """Return the number; cyclopts itself would round 1.5."""
    [word] = words
    if _WHOLE.fullmatch(word.value) is None:
        raise ValueError(f"{word.value!r} is not a whole number of at most 18 digits")
    return int(word.value)


def _positive(_: type, number: int) -> None:
    if number < 1:
        raise ValueError(f"{number} is less than 1")


Whole = Annotated[int, Parameter(converter=_whole, metavar="NUMBER", n_tokens=1)]
Limit = Annotated[Whole, Parameter(help="At most so many.", validator=_positive)]
