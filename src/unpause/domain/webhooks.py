"""Webhooks: who hears of a run, what was said to whom, and what came of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from unpause.vault import Sealed

_SERVER = re.compile(r"[^/]*//[^/?#]*")
# Stands where a fragment would, which is sent to nobody and not kept.
_SEALED = "/#sealed:"


@dataclass(frozen=True, slots=True)
class Address:
    """Where messages go: ``server``, such as ``https://host:1``, and the rest of the URL, which may hold a token.

    The rest is sealed where there is a key for that. What server it is stays readable: messages to one are counted.
    """

    server: str
    rest: str | Sealed = ""

    @classmethod
    def read(cls, stored: str) -> Self:
        """Return the address that ``stored`` was made of."""
        url, sealed, token = stored.partition(_SEALED)
        return cls(url, Sealed(token)) if sealed else cls(*split_url(url))

    @property
    def stored(self) -> str:
        """Return what the database keeps."""
        return self.server + (self.rest if isinstance(self.rest, str) else _SEALED + self.rest.token)


def split_url(url: str) -> tuple[str, str]:
    """Return the part that names the server, as it is written there, and the rest without its fragment."""
    found = _SERVER.match(url)
    server = found[0] if found else url
    return server, url.removeprefix(server).partition("#")[0]


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """An address that hears of runs; what is sent is signed with ``secret``, where there is one."""

    address: Address
    secret: Sealed | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one address: ``id`` stays the same however often it is sent, ``payload`` is its JSON text.

    ``attempts`` counts those made, with the one under way.
    """

    id: str
    organization_id: int
    address: Address
    payload: str
    created_at: datetime
    secret: Sealed | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of one attempt: the answer's status, or in ``error`` why there is none or why it counts as a failure.

    ``error`` is short and holds neither secrets nor the address.
    """

    status_code: int | None = None
    error: str | None = None

    @property
    def success(self) -> bool:
        """Whether the message arrived: an answer of 200 to 299."""
        return self.error is None
