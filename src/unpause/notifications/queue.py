"""The stored notifications, as the delivery worker sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unpause.domain.changes import Outbox
from unpause.store.notifications import (
    claim_message,
    list_due_channels,
    mark_not_sent,
    mark_sent,
    put_off,
    until_due,
)
from unpause.vault import UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from unpause.clock import Ids
    from unpause.domain.notifications import NotificationMessage
    from unpause.domain.webhooks import DeliveryResult
    from unpause.notifications.sender import ChannelSender
    from unpause.store.engine.database import Connection
    from unpause.store.notifications import DueChannel


@dataclass(frozen=True, slots=True)
class NotificationQueue:
    """Implements ``delivery.worker.DeliveryQueue``: what is due is a channel, what is sent one message to it.

    ``address`` is this server's URL in links; a channel gets ``per_minute`` messages at most.
    """

    sender: ChannelSender
    ids: Ids
    address: str
    per_minute: int
    outbox: Outbox = Outbox.NOTIFICATION

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
    ) -> list[DueChannel]:
        """Return the channels for which something is due."""
        busy = [int(server.rpartition(" ")[2]) for server in servers]
        return list_due_channels(connection, now, limit, self.per_minute, busy, organizations)

    def can_decrypt(self, due: DueChannel) -> bool:
        """Whether the key for the channel's URL is here."""
        return self.sender.can_decrypt(due.url)

    def put_off(self, connection: Connection, due: DueChannel, now: datetime, retry_at: datetime) -> None:
        """Have what is due for the channel be due later, without an attempt."""
        put_off(connection, due, now, UNREADABLE, retry_at)

    def claim(
        self, connection: Connection, due: DueChannel, now: datetime, retry_at: datetime
    ) -> NotificationMessage | None:
        """Count an attempt and return what it sends."""
        return claim_message(connection, due, now, retry_at, self.per_minute, self.ids.fresh())

    def find_trace(self, connection: Connection, message: NotificationMessage) -> str | None:
        """Return None: one message may be about several runs."""
        del connection, message
        return None

    async def send(self, message: NotificationMessage) -> DeliveryResult:
        """Send it once."""
        channel = message.channel
        return await self.sender.send_text(channel.id, channel.url, message.text(self.address))

    def mark_delivered(self, connection: Connection, message: NotificationMessage, now: datetime) -> None:
        """Write that it has arrived."""
        mark_sent(connection, message, now)

    def mark_failed(
        self, connection: Connection, message: NotificationMessage, error: str, retry_at: datetime, max_attempts: int
    ) -> datetime | None:
        """Write why the attempt failed, and when the next one is due."""
        return mark_not_sent(connection, message, error, retry_at, max_attempts)
