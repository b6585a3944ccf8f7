"""The names of this machine, which a server without authentication answers to. This loads little: a start needs it."""

from __future__ import annotations

import re
from typing import Final

_LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class OwnHosts:
    """The hosts that are this machine: those of loopback, and ``host``, which the server listens on.

    ``origins`` is a regular expression of the origins that ``has_origin`` accepts.
    """

    def __init__(self, host: str) -> None:
        # Whole fields are compared: in what is no host, such as a@localhost, readers of URLs find different ones.
        names = (f"\\[{re.escape(name)}\\]" if ":" in name else re.escape(name) for name in _LOOPBACK_NAMES | {host})
        hosts = rf"(?i:{'|'.join(sorted(names))})(?::[0-9]{{0,5}})?"
        self.origins: Final = rf"https?://{hosts}"
        self._hosts = re.compile(hosts)
        self._origins = re.compile(self.origins)

    def has_host(self, field: str) -> bool:
        """Whether a Host header field names this machine, with any port."""
        return self._hosts.fullmatch(field) is not None

    def has_origin(self, origin: str) -> bool:
        """Whether a web page of this origin is one of this machine, from any port."""
        return self._origins.fullmatch(origin) is not None
