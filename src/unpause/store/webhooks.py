"""Webhook targets: an organization's, or those of one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, insert, or_, select, update

from unpause.domain.webhooks import Address, WebhookTarget
from unpause.store.engine.statements import Statement
from unpause.store.tables import webhook_targets
from unpause.store.users import lock_organization
from unpause.vault import Encrypted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from unpause.domain.runs import Run
    from unpause.store.engine.statements import Record

_COLUMNS = (
    webhook_targets.c.run_key,
    webhook_targets.c.url,
    webhook_targets.c.secret,
    webhook_targets.c.enabled,
)
_TARGETS = Statement(
    select(*_COLUMNS)
    .where(
        webhook_targets.c.organization_id == bindparam("organization"),
        or_(webhook_targets.c.run_key == bindparam("key"), webhook_targets.c.run_key.is_(None)),
    )
    .order_by(webhook_targets.c.id)
    # A change of a target waits for the messages that are being stored for it, and these for a change under way.
    .with_for_update(read=True)
)
_OF_ORGANIZATION = (
    webhook_targets.c.organization_id == bindparam("organization"),
    webhook_targets.c.run_key.is_(None),
)
_ORGANIZATION_TARGET = select(*_COLUMNS).where(*_OF_ORGANIZATION).order_by(webhook_targets.c.id)
_FORGET_ORGANIZATION_TARGET = delete(webhook_targets).where(*_OF_ORGANIZATION)

# Stands for a run's own targets where it has none: without any row the organization's would be used.
_NO_TARGET = WebhookTarget(Address(""), enabled=False)


def list_targets(connection: Connection, run: Run) -> list[WebhookTarget]:
    """Return the targets for the run: its own, where it has any, else the organization's if enabled.

    They do not change before the transaction ends.
    """
    rows = _TARGETS.all(connection, {"organization": run.organization_id, "key": run.id})
    own = [row for row in rows if row["run_key"] is not None]
    return [_target(row) for row in own or rows if row["enabled"]]


def replace_run_targets(connection: Connection, run: Run, targets: Sequence[WebhookTarget], now: datetime) -> None:
    """Replace the run's targets; with none, the organization's is not used either."""
    connection.execute(delete(webhook_targets).where(webhook_targets.c.run_key == run.id))
    values = [_values(run.organization_id, target, now) for target in targets or (_NO_TARGET,)]
    connection.execute(insert(webhook_targets), [{**each, "run_key": run.id} for each in values])


def find_organization_target(connection: Connection, organization_id: int) -> WebhookTarget | None:
    """Return the organization's own webhook, enabled or not."""
    row = connection.execute(_ORGANIZATION_TARGET, {"organization": organization_id}).mappings().first()
    return None if row is None else _target(row)


def replace_organization_target(
    connection: Connection, organization_id: int, target: WebhookTarget | None, now: datetime
) -> WebhookTarget | None:
    """Replace the organization's target, and return the previous one; None removes it."""
    # Two at once would else both insert.
    lock_organization(connection, organization_id)
    previous = find_organization_target(connection, organization_id)
    if target is None:
        connection.execute(_FORGET_ORGANIZATION_TARGET, {"organization": organization_id})
        return previous
    values = _values(organization_id, target, now)
    if previous is None:
        connection.execute(insert(webhook_targets), [values])
    else:
        # Whoever waits to read this row finds the new target in it, and would find none in another row.
        changed = update(webhook_targets).where(*_OF_ORGANIZATION).values(values)
        connection.execute(changed, {"organization": organization_id})
    return previous


def _target(row: Record) -> WebhookTarget:
    secret = row["secret"]
    return WebhookTarget(Address.read(row["url"]), Encrypted(secret) if secret else None, row["enabled"])


def _values(organization_id: int, target: WebhookTarget, now: datetime) -> dict[str, object]:
    return {
        "organization_id": organization_id,
        "url": target.address.stored,
        "secret": target.secret.token if target.secret else None,
        "enabled": target.enabled,
        "created_at": now,
    }
