"""The error of a test that uses this package wrongly, as opposed to the failure of its agent."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

_MOST_LISTED: Final = 20


class WrongUse(AssertionError):
    """The test asks for what cannot be: an answer to a run that waits for nothing, a tool that is not there."""


def near(name: str, names: Collection[str]) -> str:
    """Return the nearest of the names as a question, or else all of them."""
    found = get_close_matches(name, names, 1)
    if found or len(names) > _MOST_LISTED:
        return f"did you mean {found[0]!r}?" if found else f"there are {len(names)} others"
    return f"there is {', '.join(map(repr, names)) or 'none'}"


def refuse_no_text(verb: str, **sent: object) -> None:
    """Raise WrongUse for an argument that is neither text nor left out."""
    for name, value in sent.items():
        if not isinstance(value, str | None):
            raise WrongUse(f"{verb}({name}=…) takes text, not {value!r}")
