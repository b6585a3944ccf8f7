"""Sends one message to one webhook, signed at this moment."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from unpause.domain.webhooks import Sent
from unpause.errors import SecretsNotKept
from unpause.runs.signing import sign, unsigned

if TYPE_CHECKING:
    from unpause.clock import Clock
    from unpause.domain.webhooks import Delivery
    from unpause.execution.outbound import Door
    from unpause.vault import Vault


class SigningSender:
    """Implements ``runs.webhooks.MessageSender``: opens the secret, signs, and sends through the door."""

    def __init__(self, vault: Vault, door: Door, clock: Clock) -> None:
        self._vault = vault
        self._door = door
        self._clock = clock
        self._said = {"Content-Type": "application/json", "User-Agent": f"Unpause/{version('unpause')}"}

    async def send_message(self, delivery: Delivery) -> Sent:
        """Send it once; a message whose secret cannot be opened any more is not sent without a signature."""
        now = self._clock.now()
        if delivery.secret is None:
            signed = unsigned(delivery.id, now)
        else:
            try:
                signed = sign(self._vault.open(delivery.secret), delivery.id, now, delivery.payload)
            except SecretsNotKept:
                return Sent(error="the secret cannot be decrypted with the keys that this server has")
        return await self._door.post(delivery.url, delivery.payload.encode(), {**self._said, **signed})
