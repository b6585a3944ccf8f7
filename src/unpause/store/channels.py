"""The channels of notifications: an organization's, and its users' own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, bindparam, delete, func, insert, or_, select

from unpause.domain.notifications import Channel, ChannelEvent
from unpause.store.columns import Instant
from unpause.store.engine.statements import Statement
from unpause.store.tables import notification_channels, tokens
from unpause.vault import Encrypted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import Any

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

    from unpause.store.engine.statements import Record

_KEYS = range(1, 2**63)
_OF_ORGANIZATION = notification_channels.c.organization_id == bindparam("organization")
# A user's channel ends with the token that created it, as that user's other requests do.
_IS_VALID = or_(
    tokens.c.id.is_(None),
    and_(
        tokens.c.revoked_at.is_(None),
        or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > bindparam("now", type_=Instant)),
    ),
)
_VALID = Statement(
    select(*notification_channels.c)
    .outerjoin(tokens, tokens.c.id == notification_channels.c.token_id)
    .where(_OF_ORGANIZATION, _IS_VALID)
    .order_by(notification_channels.c.id)
)


def add_channel(connection: Connection, channel: Channel) -> int:
    """Add a channel and return its id."""
    values = {
        "organization_id": channel.organization_id,
        "user_id": channel.user_id,
        "name": channel.name,
        "kind": channel.kind,
        "url": channel.url.token,
        "events": [event.value for event in channel.events],
        "scopes": None if channel.scopes is None else sorted(channel.scopes),
        "token_id": channel.token_id,
        "is_isolated": channel.is_isolated,
        "created_at": channel.created_at,
    }
    added = insert(notification_channels).values(values).returning(notification_channels.c.id)
    return int(connection.execute(added).scalar_one())


def list_valid_channels(connection: Connection, organization_id: int, now: datetime) -> list[Channel]:
    """Return the organization's channels, and those of its users whose token is neither revoked nor expired."""
    return [read_channel(row) for row in _VALID.all(connection, {"organization": organization_id, "now": now})]


def list_channels(
    connection: Connection, organization_id: int, user_id: str | None, after: int, limit: int
) -> list[Channel]:
    """Return channels with ids over ``after``: of one user, or with None all of the organization."""
    query = select(*notification_channels.c).where(*_visible(organization_id, user_id))
    query = query.where(notification_channels.c.id > after).order_by(notification_channels.c.id).limit(limit)
    return [read_channel(row) for row in connection.execute(query).mappings()]


def find_channel(connection: Connection, organization_id: int, user_id: str | None, key: int) -> Channel | None:
    """Return the channel if it is visible: that of another user is not, unless ``user_id`` is None."""
    if key not in _KEYS:
        return None
    query = select(*notification_channels.c).where(
        *_visible(organization_id, user_id), notification_channels.c.id == key
    )
    row = connection.execute(query).mappings().first()
    return None if row is None else read_channel(row)


def count_channels(connection: Connection, organization_id: int, user_id: str | None) -> int:
    """Return how many channels the user has, or with None the organization itself."""
    query = select(func.count()).where(
        notification_channels.c.organization_id == organization_id, notification_channels.c.user_id == user_id
    )
    return int(connection.execute(query).scalar_one())


def delete_channel(connection: Connection, key: int) -> bool:
    """Delete the channel with its notifications; return False where there is none."""
    gone = delete(notification_channels).where(notification_channels.c.id == key).returning(notification_channels.c.id)
    return connection.execute(gone).scalar() is not None


def read_channel(row: Record) -> Channel:
    """Return the channel of a row."""
    return Channel(
        id=row["id"],
        organization_id=row["organization_id"],
        user_id=row["user_id"],
        name=row["name"],
        kind=row["kind"],
        url=Encrypted(row["url"]),
        events=tuple(ChannelEvent(event) for event in row["events"]),
        scopes=None if row["scopes"] is None else frozenset(row["scopes"]),
        token_id=row["token_id"],
        is_isolated=row["is_isolated"],
        created_at=row["created_at"],
        last_sent_at=row["last_sent_at"],
        last_error=row["last_error"],
    )


def _visible(organization_id: int, user_id: str | None) -> Sequence[ColumnElement[Any]]:
    own = [] if user_id is None else [notification_channels.c.user_id == user_id]
    return [notification_channels.c.organization_id == organization_id, *own]
