"""Who hears of runs, and the messages that are still to be delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, insert, or_, select

from unpause.domain.webhooks import Delivery, WebhookTarget
from unpause.store.tables import webhook_deliveries, webhook_targets

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from unpause.domain.runs import Run

_TARGETS = (
    select(
        webhook_targets.c.run_key,
        webhook_targets.c.url,
        webhook_targets.c.secret,
        webhook_targets.c.enabled,
    )
    .where(
        webhook_targets.c.organization_id == bindparam("organization"),
        or_(webhook_targets.c.run_key == bindparam("key"), webhook_targets.c.run_key.is_(None)),
    )
    .order_by(webhook_targets.c.id)
)
_INSERT_DELIVERY = insert(webhook_deliveries)


def list_targets(connection: Connection, run: Run) -> list[WebhookTarget]:
    """Return who hears of the run: its own targets, where it has any, else the organization's if that is enabled."""
    rows = connection.execute(_TARGETS, {"organization": run.organization_id, "key": run.id}).all()
    own = [row for row in rows if row.run_key is not None]
    return [WebhookTarget(row.url, row.secret) for row in own or rows if row.enabled]


def replace_run_targets(connection: Connection, run: Run, targets: Sequence[WebhookTarget], now: datetime) -> None:
    """Let these hear of the run instead of those before."""
    connection.execute(delete(webhook_targets).where(webhook_targets.c.run_key == run.id))
    if targets:
        connection.execute(
            insert(webhook_targets),
            [
                {
                    "organization_id": run.organization_id,
                    "run_key": run.id,
                    "url": target.url,
                    "secret": target.secret,
                    "created_at": now,
                }
                for target in targets
            ],
        )


def add_deliveries(connection: Connection, deliveries: Sequence[Delivery]) -> None:
    """Keep messages that are due at once."""
    connection.execute(
        _INSERT_DELIVERY,
        [
            {
                "id": delivery.id,
                "organization_id": delivery.organization_id,
                "url": delivery.url,
                "secret": delivery.secret,
                "payload": delivery.payload,
                "next_attempt_at": delivery.created_at,
                "created_at": delivery.created_at,
            }
            for delivery in deliveries
        ],
    )
