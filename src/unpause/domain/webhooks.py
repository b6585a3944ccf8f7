"""Webhooks: targets, deliveries and their results."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from unpause.vault import Encrypted

_SERVER = re.compile(r"[^/]*//[^/?#]*")
# In place of a fragment, which is never sent and not kept.
_ENCRYPTED = "/#sealed:"


@dataclass(frozen=True, slots=True)
class Address:
    """A webhook's URL: ``server``, such as ``https://host:1``, and the rest, which may contain a token.

    The rest is encrypted where there is a key. The server stays readable, because deliveries to one are counted.
    """

    server: str
    rest: str | Encrypted = ""

    @classmethod
    def read(cls, stored: str) -> Self:
        """Return the address of a stored text."""
        url, mark, token = stored.partition(_ENCRYPTED)
        return cls(url, Encrypted(token)) if mark else cls(*split_url(url))

    @property
    def stored(self) -> str:
        """Return the text that the database stores."""
        return self.server + (self.rest if isinstance(self.rest, str) else _ENCRYPTED + self.rest.token)


def split_url(url: str) -> tuple[str, str]:
    """Return the part that names the server, unchanged, and the rest without its fragment."""
    found = _SERVER.match(url)
    server = found[0] if found else url
    return server, url.removeprefix(server).partition("#")[0]


@dataclass(frozen=True, slots=True)
class WebhookTarget:
    """An address that gets messages about runs, signed with ``secret`` where there is one."""

    address: Address
    secret: Encrypted | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one address: ``id`` is the same in every attempt, ``payload`` is its JSON text.

    ``attempts`` includes the one under way.
    """

    id: str
    organization_id: int
    address: Address
    payload: str
    created_at: datetime
    secret: Encrypted | None = None
    attempts: int = 0
    run_id: str | None = None

    @property
    def server(self) -> str:
        """The server that it goes to."""
        return self.address.server


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """The result of one attempt: the response's status, and in ``error`` why the attempt failed.

    ``error`` is short and contains neither secrets nor the address.
    """

    status_code: int | None = None
    error: str | None = None

    @property
    def success(self) -> bool:
        """Whether the response had a status of 200 to 299."""
        return self.error is None
