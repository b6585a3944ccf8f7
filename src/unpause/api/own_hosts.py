"""The names of this machine, which a server without authentication answers to. This loads little: a start needs it."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class OwnHosts:
    """The hosts that are this machine: those of loopback, and ``host``, which the server listens on."""

    def __init__(self, host: str) -> None:
        self._names = _LOOPBACK_NAMES | {host}

    def has_host(self, field: str) -> bool:
        """Whether a Host header field names this machine, with any port."""
        return _name(f"//{field}") in self._names

    def has_origin(self, origin: str) -> bool:
        """Whether a web page of this origin is one of this machine, from any port."""
        return _name(origin) in self._names

    @property
    def origins(self) -> str:
        """A regular expression of the origins that ``has_origin`` accepts."""
        names = (f"\\[{re.escape(name)}\\]" if ":" in name else re.escape(name) for name in self._names)
        return rf"https?://(?:{'|'.join(sorted(names))})(?::[0-9]{{1,5}})?"


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
