"""The tokens that were created, without their secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, case, exists, insert, literal, or_, select, tuple_, update

from unpause.domain.tokens import Token
from unpause.store.columns import Instant
from unpause.store.tables import tokens

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy.engine import Connection, RowMapping

_FIND = select(*tokens.c).where(tokens.c.id == bindparam("token"))
_TOUCH = (
    update(tokens)
    .where(
        tokens.c.id == bindparam("token"),
        or_(tokens.c.last_used_at.is_(None), tokens.c.last_used_at < bindparam("used", type_=Instant)),
    )
    .values(last_used_at=bindparam("used", type_=Instant))
)


def add_token(connection: Connection, token: Token) -> None:
    """Add a token."""
    connection.execute(insert(tokens).values({column.name: getattr(token, column.name) for column in tokens.c}))


def find_token(connection: Connection, token_id: str) -> Token | None:
    """Return the token of that id, valid or not; None where there is none. The id determines its organization."""
    row = connection.execute(_FIND, {"token": token_id}).mappings().first()
    return None if row is None else _token(row)


def list_tokens(connection: Connection, organization_id: int) -> list[Token]:
    """Return the organization's tokens, oldest first, expired and revoked ones too."""
    query = (
        select(*tokens.c).where(tokens.c.organization_id == organization_id).order_by(tokens.c.created_at, tokens.c.id)
    )
    return [_token(row) for row in connection.execute(query).mappings()]


def page_tokens(connection: Connection, organization_id: int, limit: int, after: str | None) -> list[Token]:
    """Return the organization's tokens after that of the id ``after``, newest first; nothing after an unknown one."""
    place = tuple_(tokens.c.created_at, tokens.c.id)
    query = select(*tokens.c).where(tokens.c.organization_id == organization_id)
    if after is not None:
        last = find_token(connection, after)
        if last is None or last.organization_id != organization_id:
            return []
        query = query.where(place < tuple_(literal(last.created_at, Instant), literal(last.id)))
    query = query.order_by(tokens.c.created_at.desc(), tokens.c.id.desc()).limit(limit)
    return [_token(row) for row in connection.execute(query).mappings()]


def has_tokens(connection: Connection) -> bool:
    """Whether any token was ever created, in any organization."""
    return bool(connection.execute(select(exists(select(tokens.c.id)))).scalar())


def set_revoked(connection: Connection, token_id: str, now: datetime) -> bool:
    """Revoke the token; return False where it was revoked before, or there is none."""
    statement = (
        update(tokens).where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None)).values(revoked_at=now)
    ).returning(tokens.c.id)
    return connection.execute(statement).scalar() is not None


def set_expiry(connection: Connection, token_id: str, moment: datetime) -> bool:
    """Have the token expire at the moment, unless it expires before; return False for one that is revoked, or none."""
    is_later = or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > moment)
    statement = (
        update(tokens)
        .where(tokens.c.id == token_id, tokens.c.revoked_at.is_(None))
        .values(expires_at=case((is_later, moment), else_=tokens.c.expires_at))
        .returning(tokens.c.id)
    )
    return connection.execute(statement).scalar() is not None


def touch_tokens(connection: Connection, used: Iterable[tuple[str, datetime]]) -> None:
    """Note when tokens were last used."""
    for token_id, moment in sorted(used):
        connection.execute(_TOUCH, {"token": token_id, "used": moment})


def _token(row: RowMapping) -> Token:
    plain: dict[str, Any] = dict(row)
    return Token(**{**plain, "scopes": tuple(row["scopes"])})
