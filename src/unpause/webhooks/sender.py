"""Sends one message to one webhook, signed at this moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.domain.webhooks import Sent
from unpause.errors import SecretsNotKept
from unpause.version import VERSION
from unpause.webhooks.service import url_of
from unpause.webhooks.signing import sign, unsigned

if TYPE_CHECKING:
    from unpause.clock import Clock
    from unpause.domain.webhooks import Delivery
    from unpause.vault import Vault
    from unpause.webhooks.http import SafeHttpClient


class SigningSender:
    """Implements ``runs.webhooks.MessageSender``: opens the secrets, signs, and sends through the door."""

    def __init__(self, vault: Vault, door: SafeHttpClient, clock: Clock) -> None:
        self._vault = vault
        self._door = door
        self._clock = clock
        self._said = {"Content-Type": "application/json", "User-Agent": f"Unpause/{VERSION}"}

    async def send_message(self, delivery: Delivery) -> Sent:
        """Send it once; one whose address or secret cannot be opened any more is not sent."""
        now = self._clock.now()
        try:
            url = url_of(delivery.address, self._vault)
            secret = self._vault.open(delivery.secret) if delivery.secret is not None else None
        except SecretsNotKept:
            return Sent(error="its secrets cannot be decrypted with the keys that this server has")
        signed = unsigned(delivery.id, now) if secret is None else sign(secret, delivery.id, now, delivery.payload)
        return await self._door.post(url, delivery.payload.encode(), {**self._said, **signed})
