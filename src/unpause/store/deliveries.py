"""Webhook deliveries: which are due, which worker attempts one, and the result."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import bindparam, insert, or_, select, update

from unpause.domain.changes import Outbox
from unpause.domain.webhooks import Address, Delivery, WebhookTarget
from unpause.store.columns import Instant
from unpause.store.engine.changes import note_message
from unpause.store.engine.dialects import database_now_or_before, first_due, until_first
from unpause.store.tables import webhook_deliveries
from unpause.vault import Encrypted

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import timedelta

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

_INSERT = insert(webhook_deliveries).values(next_attempt_at=database_now_or_before("due_at"))
_DUE = (
    select(
        webhook_deliveries.c.id,
        webhook_deliveries.c.organization_id,
        webhook_deliveries.c.url,
        webhook_deliveries.c.secret,
        webhook_deliveries.c.attempts,
    )
    .where(webhook_deliveries.c.next_attempt_at <= bindparam("now"))
    .order_by(webhook_deliveries.c.next_attempt_at, webhook_deliveries.c.id)
    .limit(bindparam("limit"))
)
_FIRST_DUE = first_due(webhook_deliveries.c.next_attempt_at)
# Optimistic: of two workers that claim it at once, the second finds another number of attempts.
_CLAIM = (
    update(webhook_deliveries)
    .where(
        webhook_deliveries.c.id == bindparam("key"),
        webhook_deliveries.c.attempts == bindparam("expected_attempts"),
        webhook_deliveries.c.next_attempt_at.is_not(None),
    )
    .values(attempts=webhook_deliveries.c.attempts + 1, next_attempt_at=bindparam("retry_at"))
    .returning(*webhook_deliveries.c)
)
# A finished delivery needs no secret.
_DELIVERED = (
    update(webhook_deliveries)
    .where(webhook_deliveries.c.id == bindparam("key"))
    .values(delivered_at=bindparam("now"), next_attempt_at=None, last_error=None, secret=None)
)
_FAILED = (
    update(webhook_deliveries)
    .where(
        webhook_deliveries.c.id == bindparam("key"),
        webhook_deliveries.c.attempts == bindparam("expected_attempts"),
        webhook_deliveries.c.delivered_at.is_(None),
        # Its webhook was deleted meanwhile.
        webhook_deliveries.c.next_attempt_at.is_not(None),
    )
    .values(last_error=bindparam("error"), next_attempt_at=bindparam("retry_at"))
)
_GIVE_UP = _FAILED.values(secret=None)

# A moment that each of them is after: for IS NOT NULL alone SQLite reads the whole table.
_ALWAYS = datetime(1, 1, 1, tzinfo=UTC)
_WAITING = (
    webhook_deliveries.c.organization_id == bindparam("organization"),
    webhook_deliveries.c.next_attempt_at >= bindparam("always", _ALWAYS, type_=Instant),
)
_WAITING_TARGETS = select(webhook_deliveries.c.url, webhook_deliveries.c.secret).where(*_WAITING).distinct()
_WAITING_AT = (
    *_WAITING,
    webhook_deliveries.c.url == bindparam("old_url"),
    webhook_deliveries.c.secret.is_not_distinct_from(bindparam("old_secret")),
)
_READDRESS = update(webhook_deliveries).where(*_WAITING_AT)


class DueDelivery(NamedTuple):
    """A delivery that is due, as it was read."""

    id: str
    address: Address
    attempts: int
    organization_id: int = 1
    secret: Encrypted | None = None

    @property
    def key(self) -> str:
        """Its name."""
        return self.id

    @property
    def server(self) -> str:
        """The server that it goes to."""
        return self.address.server


def add_deliveries(connection: Connection, deliveries: Sequence[Delivery]) -> None:
    """Add deliveries that are due at once."""
    note_message(connection, Outbox.WEBHOOK)
    connection.execute(
        _INSERT,
        [
            {
                "id": delivery.id,
                "organization_id": delivery.organization_id,
                "url": delivery.address.stored,
                "secret": delivery.secret.token if delivery.secret else None,
                "payload": delivery.payload,
                "due_at": delivery.created_at,
                "created_at": delivery.created_at,
                "run_id": delivery.run_id,
            }
            for delivery in deliveries
        ],
    )


def until_due(connection: Connection, now: datetime) -> timedelta | None:
    """Return how long until a delivery is due, which one may be already; None without any. ``now`` is for SQLite."""
    return until_first(connection, _FIRST_DUE, now)


def list_due(
    connection: Connection,
    now: datetime,
    limit: int,
    without: Collection[str] = (),
    organizations: Collection[int] = (),
) -> list[DueDelivery]:
    """Return the deliveries that are due, the longest due first.

    ``without`` names servers to omit, such as ``https://host:1``; ``organizations`` are those to omit.
    """
    statement = _DUE.where(*(~_is_at(server) for server in without)) if without else _DUE
    if organizations:
        statement = statement.where(webhook_deliveries.c.organization_id.not_in(organizations))
    found = connection.execute(statement, {"now": now, "limit": limit})
    return [
        DueDelivery(row.id, Address.read(row.url), row.attempts, row.organization_id, _encrypted(row.secret))
        for row in found
    ]


def claim_delivery(connection: Connection, due: DueDelivery, retry_at: datetime) -> Delivery | None:
    """Count an attempt and return the delivery; None where another worker was faster.

    It is due again at ``retry_at``, in case this attempt never reports its result.
    """
    row = connection.execute(_CLAIM, {"key": due.id, "expected_attempts": due.attempts, "retry_at": retry_at}).first()
    if row is None:
        return None
    return Delivery(
        id=row.id,
        organization_id=row.organization_id,
        address=Address.read(row.url),
        payload=row.payload,
        created_at=row.created_at,
        secret=_encrypted(row.secret),
        attempts=row.attempts,
    )


def put_off(connection: Connection, due: DueDelivery, error: str, retry_at: datetime) -> None:
    """Have it be due at ``retry_at`` without an attempt, and write why; nothing where somebody has claimed it."""
    values = {"key": due.id, "expected_attempts": due.attempts, "error": error, "retry_at": retry_at}
    connection.execute(_FAILED, values)


def _encrypted(token: str | None) -> Encrypted | None:
    return Encrypted(token) if token else None


def mark_delivered(connection: Connection, delivery: Delivery, now: datetime) -> None:
    """Write that the message arrived: the delivery is finished."""
    connection.execute(_DELIVERED, {"key": delivery.id, "now": now})


def mark_failed(connection: Connection, delivery: Delivery, error: str, retry_at: datetime | None) -> None:
    """Write why the attempt failed and when the next one is due; with None the delivery is finished.

    Changes nothing where a later attempt is under way, or an earlier one has arrived after all.
    """
    values = {"key": delivery.id, "expected_attempts": delivery.attempts, "error": error, "retry_at": retry_at}
    connection.execute(_FAILED if retry_at is not None else _GIVE_UP, values)


def list_waiting_targets(connection: Connection, organization_id: int) -> list[WebhookTarget]:
    """Return where the organization's messages that wait go to, each stored form once."""
    found = connection.execute(_WAITING_TARGETS, {"organization": organization_id})
    return [WebhookTarget(Address.read(row.url), _encrypted(row.secret)) for row in found]


def readdress_waiting(
    connection: Connection, organization_id: int, old: WebhookTarget, new: WebhookTarget | None
) -> None:
    """Have the organization's messages that wait for a target, as it is stored, go to another; with None to nobody."""
    values: dict[str, object] = {"next_attempt_at": None, "last_error": None, "secret": None}
    if new is not None:
        values = {"url": new.address.stored, "secret": new.secret.token if new.secret else None}
    parameters = {
        "organization": organization_id,
        "old_url": old.address.stored,
        "old_secret": old.secret.token if old.secret else None,
    }
    connection.execute(_READDRESS.values(values), parameters)


def _is_at(server: str) -> ColumnElement[bool]:
    url = webhook_deliveries.c.url
    ends = (url.startswith(f"{server}{end}", autoescape=True) for end in ("/", "?", "#"))
    return or_(url == server, *ends)
