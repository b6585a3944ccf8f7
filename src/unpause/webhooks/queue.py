"""The stored messages of webhooks, as the delivery worker sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unpause.domain.changes import Outbox
from unpause.domain.json import load_json
from unpause.store.deliveries import (
    claim_delivery,
    list_due,
    mark_delivered,
    mark_failed,
    put_off,
    until_due,
)
from unpause.store.runs import find_trace
from unpause.vault import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from unpause.domain.webhooks import Delivery, DeliveryResult
    from unpause.store.deliveries import DueDelivery
    from unpause.store.engine.database import Connection
    from unpause.webhooks.sender import MessageSender


@dataclass(frozen=True, slots=True)
class WebhookQueue:
    """Implements ``delivery.worker.DeliveryQueue``."""

    sender: MessageSender
    outbox: Outbox = Outbox.WEBHOOK

    def until_due(self, connection: Connection, now: datetime) -> timedelta | None:
        """Return how long until anything is due."""
        return until_due(connection, now)

    def list_due(
        self,
        connection: Connection,
        now: datetime,
        limit: int,
        servers: Sequence[str],
        organizations: Sequence[int],
    ) -> list[DueDelivery]:
        """Return the deliveries that are due."""
        return list_due(connection, now, limit, servers, organizations)

    def can_decrypt(self, due: DueDelivery) -> bool:
        """Whether the keys for its address and secret are here."""
        return self.sender.can_decrypt(due.address, due.secret)

    def put_off(self, connection: Connection, due: DueDelivery, now: datetime, retry_at: datetime) -> None:
        """Have it be due later, without an attempt."""
        del now
        put_off(connection, due, UNREADABLE, retry_at)

    def claim(self, connection: Connection, due: DueDelivery, now: datetime, retry_at: datetime) -> Delivery | None:
        """Count an attempt and return the delivery."""
        del now
        return claim_delivery(connection, due, retry_at)

    def find_trace(self, connection: Connection, message: Delivery) -> str | None:
        """Return the trace of the run that the message is about."""
        run_id = load_json(message.payload)["data"].get("run_id")
        return None if run_id is None else find_trace(connection, run_id)

    async def send(self, message: Delivery) -> DeliveryResult:
        """Send it once."""
        return await self.sender.send_message(message)

    def mark_delivered(self, connection: Connection, message: Delivery, now: datetime) -> None:
        """Write that it has arrived."""
        mark_delivered(connection, message, now)

    def mark_failed(
        self, connection: Connection, message: Delivery, error: str, retry_at: datetime, max_attempts: int
    ) -> datetime | None:
        """Write why the attempt failed, and when the next one is due."""
        next_at = retry_at if message.attempts < max_attempts else None
        mark_failed(connection, message, error, next_at)
        return next_at
