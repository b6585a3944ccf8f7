"""Takes secrets out of texts that others wrote, such as a provider's error message or a traceback."""

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
# Of a traceback: where it was raised and what was said stand at its end.
_LONGEST_TRACEBACK = 16_000
_MOST_SEARCHED = 1_000_000
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL|DATABASE_URL", re.IGNORECASE)
_PATTERNS = (
    # A JWT, with or without its signature.
    re.compile(r"\beyJ[\w-]{6,}\.[\w-]{6,}(?:\.[\w-]*)?"),
    re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"),
    re.compile(r"\b(?:sk|pk|rk|unp|ghp|gho|xox[abp])[-_][\w*.-]{6,}"),
    re.compile(r"\bwhsec_[\w+/=-]{6,}"),
    re.compile(r"(?i)(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),
    re.compile(r"(?i)\b(api[_-]?key|token|secret|password)\b([\"']?\s*[:=]\s*[\"']?)[^\s\"',&]+"),
)


class Redaction:
    """Knows the secret values of the environment it was made with, further ``secrets``, and what secrets look like."""

    def __init__(self, environment: Mapping[str, str], secrets: Iterable[str] = ()) -> None:
        values = {value for name, value in environment.items() if _SECRET_NAME.search(name)}
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
        for concealed in self._concealed:
            text = concealed.hide(text)
        for value in self._values:
            text = text.replace(value, HIDDEN)
        for pattern in _PATTERNS:
            text = pattern.sub(HIDDEN, text)
        return text

    def clean(self, text: str) -> str:
        """Return the text without secrets, at most 1,000 characters of it."""
        text = self.hide(text)
        return text if len(text) <= _LONGEST_MESSAGE else text[:_LONGEST_MESSAGE] + "…"

    def traceback_of(self, error: BaseException) -> str:
        """Return the error's traceback without secrets, at most the last 16,000 characters of it."""
        # Much more than is kept is searched: a secret that the cut goes through could not be found.
        text = self.hide("".join(format_exception(error))[-_MOST_SEARCHED:]).rstrip()
        return text if len(text) <= _LONGEST_TRACEBACK else "…" + text[1 - _LONGEST_TRACEBACK :]
