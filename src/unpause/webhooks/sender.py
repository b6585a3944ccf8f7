"""Signs a message by the Standard Webhooks scheme and sends it once."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Protocol

from standardwebhooks.webhooks import Webhook

from unpause.domain.json import dump_json, load_json
from unpause.domain.webhooks import DeliveryResult
from unpause.errors import InvalidInput, SecretsNotKept
from unpause.vault import UNREADABLE, Encrypted
from unpause.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from unpause.clock import Clock
    from unpause.domain.webhooks import Address, Delivery
    from unpause.vault import Vault
    from unpause.webhooks.http import SafeHttpClient

_PREFIX = "whsec_"
_BASE64 = re.compile(r"[A-Za-z0-9+/]{2,}={0,2}")
_LONGEST_SECRET = 1024


class MessageSender(Protocol):
    """Sends one message once."""

    def can_decrypt(self, address: Address, secret: Encrypted | None) -> bool:
        """Whether its keys fit both."""
        ...

    async def send_message(self, delivery: Delivery) -> DeliveryResult:
        """Send it, signed if it has a secret; return the result, and raise nothing for what others cause."""
        ...


class SigningSender:
    """The sender of a server: decrypts the secrets, signs, and sends through the safe client.

    ``load_client`` is called in a thread, for the first message: the client's libraries take a quarter of a second.
    ``address`` is this server's URL, for the links in messages.
    """

    def __init__(self, vault: Vault, load_client: Callable[[], SafeHttpClient], clock: Clock, address: str) -> None:
        self._vault = vault
        self._address = address
        self._load_client = load_client
        self._client: SafeHttpClient | None = None
        self._clock = clock
        self._headers = {"Content-Type": "application/json", "User-Agent": f"Unpause/{VERSION}"}

    def can_decrypt(self, address: Address, secret: Encrypted | None) -> bool:
        """Whether the vault's keys fit both."""
        return all(self._vault.can_decrypt(each) for each in (address.rest, secret) if isinstance(each, Encrypted))

    async def send_message(self, delivery: Delivery) -> DeliveryResult:
        """Send it once; a message whose address or secret cannot be decrypted is not sent."""
        now = self._clock.now()
        try:
            url = decrypt_url(delivery.address, self._vault)
            secret = self._vault.decrypt(delivery.secret) if delivery.secret is not None else None
        except SecretsNotKept:
            return DeliveryResult(error=UNREADABLE)
        headers, payload = _message_headers(delivery.id, now), with_links(delivery.payload, self._address)
        if secret is not None:
            headers["webhook-signature"] = _signature(secret, delivery.id, now, payload)
        if self._client is None:
            self._client = await asyncio.to_thread(self._load_client)
        return await self._client.post(url, payload.encode(), {**self._headers, **headers})


def with_links(payload: str, address: str) -> str:
    """Return the message with a link to its run, and to each of its requests, in the console at this address."""
    message = load_json(payload)
    data = message["data"]
    if "run_id" in data:
        data["url"] = f"{address}/console/runs/{data['run_id']}"
    for requirement in data.get("requirements", ()):
        # Messages that an older version stored do not name it.
        if "requirement_id" in requirement:
            requirement["url"] = f"{address}/console/requests/{requirement['requirement_id']}"
    return dump_json(message)


def decrypt_url(address: Address, vault: Vault) -> str:
    """Return the URL; raise SecretsNotKept where no key fits any more."""
    return address.server + (address.rest if isinstance(address.rest, str) else vault.decrypt(address.rest))


def check_secret(secret: str) -> None:
    """Raise InvalidInput for a secret that cannot sign; the message does not contain it."""
    if not secret:
        raise InvalidInput("The webhook secret is empty; leave it out for messages without a signature")
    if len(secret) > _LONGEST_SECRET:
        raise InvalidInput(f"The webhook secret is longer than {_LONGEST_SECRET} characters")
    if not secret.startswith(_PREFIX):
        return
    encoded = secret.removeprefix(_PREFIX)
    if _BASE64.fullmatch(encoded) is None or len(encoded.rstrip("=")) % 4 == 1:
        raise InvalidInput(f"The webhook secret begins with {_PREFIX} but is not base64 after it")


def _signature(secret: str, message_id: str, moment: datetime, payload: str) -> str:
    """Return the signature that a receiver verifies with the same secret.

    What follows ``whsec_`` is the key in base64; the key of any other secret is its text in UTF-8.
    """
    return Webhook(secret if secret.startswith(_PREFIX) else secret.encode()).sign(message_id, moment, payload)


def _message_headers(message_id: str, moment: datetime) -> dict[str, str]:
    """Return the headers that every message has."""
    return {"webhook-id": message_id, "webhook-timestamp": str(int(moment.timestamp()))}
