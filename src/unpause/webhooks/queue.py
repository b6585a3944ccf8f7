"""The stored messages of webhooks, as the delivery worker sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unpause.store.deliveries import (
    claim_delivery,
    delete_finished,
    has_finished,
    list_due,
    mark_delivered,
    mark_failed,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from unpause.domain.webhooks import Delivery, DeliveryResult
    from unpause.store.deliveries import Due
    from unpause.store.engine.database import Connection
    from unpause.webhooks.sender import MessageSender


@dataclass(frozen=True, slots=True)
class WebhookQueue:
    """Implements ``delivery.worker.DeliveryQueue``."""

    sender: MessageSender
    kind: str = "webhook"

    def list_due(
        self,
        connection: Connection,
        now: datetime,
        at_most: int,
        servers: Sequence[str],
        organizations: Sequence[int],
    ) -> list[Due]:
        """Return the deliveries that are due."""
        return list_due(connection, now, at_most, servers, organizations)

    def claim(self, connection: Connection, due: Due, now: datetime, retry_at: datetime) -> Delivery | None:
        """Count an attempt and return the delivery."""
        del now
        return claim_delivery(connection, due, retry_at)

    async def send(self, message: Delivery) -> DeliveryResult:
        """Send it once."""
        return await self.sender.send_message(message)

    def mark_delivered(self, connection: Connection, message: Delivery, now: datetime) -> None:
        """Write that it has arrived."""
        mark_delivered(connection, message, now)

    def mark_failed(
        self, connection: Connection, message: Delivery, error: str, retry_at: datetime, most: int
    ) -> datetime | None:
        """Write why the attempt failed, and when the next one is due."""
        next_at = retry_at if message.attempts < most else None
        mark_failed(connection, message, error, next_at)
        return next_at

    def has_finished(self, connection: Connection, before: datetime) -> bool:
        """Whether there are finished deliveries from before this time."""
        return has_finished(connection, before)

    def delete_finished(self, connection: Connection, before: datetime) -> None:
        """Delete them."""
        delete_finished(connection, before)
