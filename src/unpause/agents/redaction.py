"""The one place that knows what a secret looks like, by its name or its text, and takes it out of texts of others."""

from __future__ import annotations

import re
from copy import copy
from traceback import format_exception
from typing import TYPE_CHECKING

from unpause.agents.concealed import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from unpause.agents.concealed import Concealed

_SHORTEST_SECRET = 8
_LONGEST_MESSAGE = 1000
# Of a traceback: its end has the place and the message.
_LONGEST_TRACEBACK = 16_000
_MAX_SEARCHED = 200_000
# Of a text of which only a message is kept, what lies behind this is not searched.
_SEARCHED = 8_000
# Environment variables that hold a secret, and fields of a request: the address of a webhook may hold a token.
_SECRET_VARIABLE = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL|DATABASE_URL", re.IGNORECASE)
_SECRET_FIELD = re.compile(r"secret|token|password|url|webhook", re.IGNORECASE)
# Each takes time in proportion to the text, whatever stands in it: no place is looked at again for every place before.
_PATTERNS = (
    re.compile(r"(?i)\b(bearer|basic)\s{1,100}[\w.~+/=-]{8,}"),
    re.compile(r"\b(?:sk|pk|rk|unp|ghp|gho|xox[abp])[-_][\w*.-]{6,}"),
    re.compile(r"\bwhsec_[\w+/=-]{6,}"),
    re.compile(r"(?i)(?<=://)[^/\s:@]++:[^/\s@]++(?=@)"),
    re.compile(r"(?i)\b(api[_-]?key|token|secret|password)\b([\"']?\s{0,100}[:=]\s{0,100}[\"']?)[^\s\"',&]+"),
)
# Whatever one of the patterns, or a JWT, is found in has one of these. To look for them takes a fraction of the time.
_SIGNS = (
    *("bearer", "basic", "whsec_", "://", "key", "token", "secret", "password", "eyj", "xox"),
    *(f"{prefix}{end}" for prefix in ("sk", "pk", "rk", "unp", "ghp", "gho") for end in "-_"),
)
# Parts with dots between them, from the beginning of the first one: a search at each character of a long part would
# take the square of its length.
_DOTTED = re.compile(r"(?<![\w-])[\w-]++(?:\.[\w-]*+)++")
# How a JWT's first part begins, and how long it and the second one are at least.
_JWT = re.compile(r"\beyJ(?=[\w-]{6})")
_SHORTEST_PART = 6
_PARTS = 3


def is_secret_field(name: object) -> bool:
    """Whether the value of a request's field of this name must not be repeated."""
    return _SECRET_FIELD.search(str(name)) is not None


class Redaction:
    """Hides the secret values of an environment, further ``secrets``, and what looks like a secret."""

    def __init__(self, environment: Mapping[str, str], secrets: Iterable[str] = ()) -> None:
        values = {value.strip() for name, value in environment.items() if _SECRET_VARIABLE.search(name)}
        values.update(secrets)
        self._concealed: tuple[Concealed, ...] = ()
        self._values = sorted((value for value in values if len(value) >= _SHORTEST_SECRET), key=len, reverse=True)

    def concealing(self, concealed: Concealed) -> Redaction:
        """Return one that hides these values, too."""
        if not concealed:
            return self
        further = copy(self)
        further._concealed = (*self._concealed, concealed)  # noqa: SLF001 - of its own class
        return further

    def hide(self, text: str) -> str:
        """Return the text without secrets."""
        return _hide_lookalikes(self._hide_values(text))

    def clean(self, text: str) -> str:
        """Return the text without secrets, at most 1,000 characters of it."""
        text = self._hide_values(text)
        if len(text) > _SEARCHED:
            # What the cut may have gone through is left out, so that no part of a secret stays.
            kept, *last = text[:_SEARCHED].rsplit(maxsplit=1) or [""]
            text = f"{kept if last else ''}…"
        text = _hide_lookalikes(text)
        return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"

    def traceback_of(self, error: BaseException) -> str:
        """Return the error's traceback without secrets, at most the last 16,000 characters of it."""
        # Much more than is kept is searched: a secret that the cut goes through could not be found.
        text = self.hide("".join(format_exception(error))[-_MAX_SEARCHED:]).rstrip()
        return text if len(text) <= _LONGEST_TRACEBACK else "…" + text[1 - _LONGEST_TRACEBACK :]

    def _hide_values(self, text: str) -> str:
        for concealed in self._concealed:
            text = concealed.hide(text)
        for value in self._values:
            text = text.replace(value, HIDDEN)
        return text


def _hide_lookalikes(text: str) -> str:
    folded = text.casefold()
    if not any(sign in folded for sign in _SIGNS):
        return text
    text = _DOTTED.sub(_without_jwts, text)
    for pattern in _PATTERNS:
        text = pattern.sub(HIDDEN, text)
    return text


def _without_jwts(dotted: re.Match[str]) -> str:
    """Return the parts without JWTs, which are three of them, the last of which may be empty or missing."""
    parts = dotted[0].split(".")
    kept: list[str] = []
    place = 0
    while place < len(parts):
        is_followed = place + 1 < len(parts) and len(parts[place + 1]) >= _SHORTEST_PART
        found = _JWT.search(parts[place]) if is_followed else None
        kept.append(parts[place] if found is None else parts[place][: found.start()] + HIDDEN)
        place += 1 if found is None else _PARTS
    return ".".join(kept)
