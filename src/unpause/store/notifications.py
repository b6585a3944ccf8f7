"""The outbox of notifications: what is due for which channel, which worker attempts it, and the result."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, bindparam, case, func, or_, select, update

from unpause.domain.changes import Outbox
from unpause.domain.notifications import ChannelEvent, Notification, NotificationMessage
from unpause.domain.runs import RunStatus
from unpause.store.channels import read_channel
from unpause.store.columns import Instant
from unpause.store.engine.changes import note_message
from unpause.store.engine.dialects import Upsert, database_now_or_before, first_due, is_shared, unindexed, until_first
from unpause.store.tables import notification_channels, notifications, requirements, runs
from unpause.vault import Encrypted

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection, RowMapping

_WINDOW = timedelta(minutes=1)
# In one message: an outage of a day makes no longer one.
_MAX_TOGETHER = 1000

_ADD = Upsert(
    notifications,
    (notifications.c.id,),
    values={"next_attempt_at": database_now_or_before("due_at")},
    returning=(notifications.c.id,),
)
_IS_DUE = notifications.c.next_attempt_at <= bindparam("now", type_=Instant)
# SQLite would else read all there are, in the order of the channels.
_CHANNEL_ID = unindexed(notifications.c.channel_id).label("channel_id")
_DUE = (
    select(
        _CHANNEL_ID,
        notifications.c.organization_id,
        notification_channels.c.url,
        func.max(notifications.c.attempts).label("attempts"),
    )
    .join(notification_channels, notification_channels.c.id == notifications.c.channel_id)
    .where(
        _IS_DUE,
        or_(
            notification_channels.c.window_ends_at.is_(None),
            notification_channels.c.window_ends_at <= bindparam("now", type_=Instant),
            notification_channels.c.window_ends_at > bindparam("latest_end", type_=Instant),
            notification_channels.c.window_count < bindparam("per_minute"),
        ),
    )
    .group_by(_CHANNEL_ID, notifications.c.organization_id, notification_channels.c.url)
    .order_by(func.min(notifications.c.next_attempt_at), _CHANNEL_ID)
    .limit(bindparam("limit"))
)
_FIRST_DUE = first_due(notifications.c.next_attempt_at)
# Locked: of two workers one decides what the channel gets now. The other looks again at its next poll. Not against
# those who store notifications for it.
_CHANNEL = (
    select(*notification_channels.c)
    .where(notification_channels.c.id == bindparam("channel"))
    .with_for_update(skip_locked=True, key_share=True)
)
# What somebody has decided, or what has ended, needs no message any more.
_IS_OPEN = or_(
    notifications.c.event == ChannelEvent.FAILED.value,
    and_(requirements.c.decision.is_(None), runs.c.status == RunStatus.PAUSED.value),
)
_OF_CHANNEL = (
    select(*notifications.c, case((_IS_OPEN, 1), else_=0).label("is_open"))
    .outerjoin(requirements, requirements.c.id == notifications.c.subject)
    .outerjoin(runs, runs.c.id == requirements.c.run_key)
    .where(notifications.c.channel_id == bindparam("channel"), _IS_DUE)
    .order_by(notifications.c.created_at, notifications.c.id)
    .limit(_MAX_TOGETHER)
)
_PUT_OFF = (
    update(notifications)
    .where(notifications.c.channel_id == bindparam("channel"), _IS_DUE)
    .values(last_error=bindparam("error"), next_attempt_at=bindparam("retry_at", type_=Instant))
)
_OF_BATCH = (notifications.c.batch == bindparam("attempt"), notifications.c.delivered_at.is_(None))
_DELIVERED = (
    update(notifications)
    .where(*_OF_BATCH)
    .values(delivered_at=bindparam("now", type_=Instant), next_attempt_at=None, last_error=None)
)
_FAILED = (
    update(notifications)
    .where(*_OF_BATCH)
    .values(
        last_error=bindparam("error"),
        next_attempt_at=case(
            (notifications.c.attempts < bindparam("max_attempts"), bindparam("retry_at", type_=Instant))
        ),
    )
    .returning(notifications.c.next_attempt_at)
)


class DueChannel(NamedTuple):
    """A channel for which something is due, and the attempts of what was attempted most."""

    channel_id: int
    organization_id: int
    attempts: int
    url: Encrypted

    @property
    def key(self) -> str:
        """The channel."""
        return self.server

    @property
    def server(self) -> str:
        """The receiver whose attempts are limited, as ``NotificationMessage.server``."""
        return f"channel {self.channel_id}"


def add_notifications(connection: Connection, organization_id: int, added: Sequence[Notification]) -> None:
    """Add notifications that are due at once; one that was added before stays as it is.

    There is none for a channel that was removed since it was read.
    """
    if not added:
        return
    note_message(connection, Outbox.NOTIFICATION)
    keys = _lock_channels(connection, {each.channel_id for each in added})
    for each in added:
        if each.channel_id not in keys:
            continue
        values = {
            "id": each.id,
            "organization_id": organization_id,
            "channel_id": each.channel_id,
            "event": each.event.value,
            "subject": each.subject,
            "run_id": each.run_id,
            "agent_id": each.agent_id,
            "tool_name": each.tool_name,
            "expires_at": each.expires_at,
            "due_at": each.created_at,
            "created_at": each.created_at,
        }
        _ADD.on(connection).all(connection, values)


def _lock_channels(connection: Connection, keys: set[int]) -> set[int]:
    """Return those of the channels that are there, which are not removed before the transaction ends."""
    if not is_shared(connection):
        return keys
    query = select(notification_channels.c.id).where(notification_channels.c.id.in_(sorted(keys)))
    return set(connection.execute(query.with_for_update(read=True, key_share=True)).scalars())


def until_due(connection: Connection, now: datetime) -> timedelta | None:
    """Return how long until a notification is due, which one may be already; None without any.

    ``now`` is for SQLite.
    """
    return until_first(connection, _FIRST_DUE, now)


def list_due_channels(
    connection: Connection,
    now: datetime,
    limit: int,
    per_minute: int,
    busy: Collection[int],
    organizations: Collection[int],
) -> list[DueChannel]:
    """Return the channels for which something is due, the longest due first, but for ``busy`` ones.

    A channel that had ``per_minute`` messages in its present minute is not due.
    """
    query = _DUE
    if busy:
        query = query.where(notifications.c.channel_id.not_in(busy))
    if organizations:
        query = query.where(notifications.c.organization_id.not_in(organizations))
    found = connection.execute(
        query, {"now": now, "latest_end": now + _WINDOW, "limit": limit, "per_minute": per_minute}
    )
    return [DueChannel(row.channel_id, row.organization_id, row.attempts, Encrypted(row.url)) for row in found]


def claim_message(
    connection: Connection, due: DueChannel, now: datetime, retry_at: datetime, per_minute: int, attempt: str
) -> NotificationMessage | None:
    """Count an attempt and return what it sends: one notification, or all that are due as a digest.

    It is a digest where more are due than the channel may still get in its present minute. None where another worker
    was faster, or what was due is over.
    """
    row = connection.execute(_CHANNEL, {"channel": due.channel_id}).mappings().first()
    if row is None:
        return None
    ends_at = row["window_ends_at"]
    # One that ends later than a window from now began before the clock was put back.
    is_over = ends_at is None or not now < ends_at <= now + _WINDOW
    count = 0 if is_over else row["window_count"]
    waiting = connection.execute(_OF_CHANNEL, {"channel": due.channel_id, "now": now}).mappings().all()
    _finish(connection, [each["id"] for each in waiting if not each["is_open"]])
    still_open = [each for each in waiting if each["is_open"]]
    if not still_open or count >= per_minute:
        return None
    chosen = still_open if len(still_open) > per_minute - count else still_open[:1]
    connection.execute(
        update(notifications)
        .where(notifications.c.id.in_([each["id"] for each in chosen]))
        .values(attempts=notifications.c.attempts + 1, next_attempt_at=retry_at, batch=attempt)
    )
    ends_at = now + _WINDOW if is_over else ends_at
    connection.execute(
        update(notification_channels)
        .where(notification_channels.c.id == due.channel_id)
        .values(window_count=count + 1, window_ends_at=ends_at)
    )
    attempts = max(each["attempts"] for each in chosen) + 1
    return NotificationMessage(attempt, read_channel(row), tuple(_notification(each) for each in chosen), attempts)


def put_off(connection: Connection, due: DueChannel, now: datetime, error: str, retry_at: datetime) -> None:
    """Have what is due for the channel be due at ``retry_at`` without an attempt, and write why."""
    values = {"channel": due.channel_id, "now": now, "error": error, "retry_at": retry_at}
    if connection.execute(_PUT_OFF, values).rowcount:
        _note(connection, due.channel_id, last_error=error)


def mark_sent(connection: Connection, message: NotificationMessage, now: datetime) -> None:
    """Write that the message arrived: its notifications are finished."""
    connection.execute(_DELIVERED, {"attempt": message.id, "now": now})
    _note(connection, message.channel.id, last_sent_at=now, last_error=None)


def mark_not_sent(
    connection: Connection, message: NotificationMessage, error: str, retry_at: datetime, max_attempts: int
) -> datetime | None:
    """Write why the attempt failed; return when the next one is due, None where all had ``max_attempts`` attempts."""
    values = {"attempt": message.id, "error": error, "retry_at": retry_at, "max_attempts": max_attempts}
    next_attempts = connection.execute(_FAILED, values).scalars().all()
    _note(connection, message.channel.id, last_error=error)
    return next((moment for moment in next_attempts if moment is not None), None)


def _finish(connection: Connection, ids: Sequence[str]) -> None:
    if ids:
        done = {"next_attempt_at": None, "last_error": "decided before it was sent"}
        connection.execute(update(notifications).where(notifications.c.id.in_(ids)).values(done))


def _note(connection: Connection, channel_id: int, **columns: datetime | str | None) -> None:
    query = update(notification_channels).where(notification_channels.c.id == channel_id)
    connection.execute(query.values(columns))


def _notification(row: RowMapping) -> Notification:
    return Notification(
        channel_id=row["channel_id"],
        event=ChannelEvent(row["event"]),
        subject=row["subject"],
        run_id=row["run_id"],
        agent_id=row["agent_id"],
        tool_name=row["tool_name"],
        expires_at=row["expires_at"],
        created_at=row["created_at"],
    )
