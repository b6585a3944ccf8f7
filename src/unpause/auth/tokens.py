"""Creates, revokes and replaces tokens: random, shown once, stored as a hash."""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unpause.domain.audit import AuditAction, entry_by
from unpause.domain.principal import DEFAULT_ORGANIZATION, Principal
from unpause.domain.scopes import ADMIN, DEFAULT_SCOPES, describe_unknown
from unpause.domain.tokens import Token
from unpause.errors import InvalidInput, NotFound
from unpause.store.audit import add_entries
from unpause.store.tokens import add_token, find_token, has_tokens, set_expiry, set_revoked
from unpause.store.users import ensure_user, find_organization, lock_organization

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta

    from unpause.store.engine.database import Connection

PREFIX = "unp_"
# Letters and digits alone: the command line would read an id that begins with a dash as an option.
_ID_CHARACTERS = string.ascii_letters + string.digits
_ID_LENGTH = 8
_SECRET_BYTES = 32
# `unp_`, the id, and the secret: 43 characters of URL-safe base64, which has no dot.
_SHAPE = re.compile(r"unp_([A-Za-z0-9_-]{8})\.[A-Za-z0-9_-]{43}")
_ID = re.compile(r"[A-Za-z0-9_-]{8}")
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token to create. Without a ``user_id`` it acts for the user that each request names."""

    organization_id: int = DEFAULT_ORGANIZATION
    user_id: str | None = None
    name: str | None = None
    scopes: tuple[str, ...] = DEFAULT_SCOPES
    lifetime: timedelta | None = None


def token_id(text: str) -> str | None:
    """Return the public part of a token, or None where the text is no token."""
    found = _SHAPE.fullmatch(text)
    return None if found is None else found[1]


def is_token_id(text: str) -> bool:
    """Whether the text may be the public part of a token."""
    return _ID.fullmatch(text) is not None


def hash_of(text: str) -> str:
    """Return the hash that is stored: with 256 random bits, one round of SHA-256 is enough."""
    return hashlib.sha256(text.encode()).hexdigest()


def create_token(connection: Connection, new: NewToken, by: Principal, now: datetime) -> tuple[Token, str]:
    """Store a new token; return it and its text, which is stored nowhere.

    Raises InvalidInput for an unknown organization or scope, or an invalid name.
    """
    _check(connection, new)
    public = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))
    text = f"{PREFIX}{public}.{secrets.token_urlsafe(_SECRET_BYTES)}"
    token = Token(
        id=public,
        organization_id=new.organization_id,
        user_id=new.user_id,
        name=new.name,
        hash=hash_of(text),
        scopes=tuple(dict.fromkeys(new.scopes)),
        created_at=now,
        expires_at=now + new.lifetime if new.lifetime else None,
    )
    add_token(connection, token)
    if new.user_id is not None:
        role = "ADMIN" if ADMIN in new.scopes else "MEMBER"
        ensure_user(connection, new.organization_id, new.user_id, role, now)
    details: dict[str, object] = {"user_id": token.user_id, "scopes": list(token.scopes)}
    _note(connection, by, AuditAction.TOKEN_CREATED, token, now, details)
    return token, text


def create_first_token(connection: Connection, now: datetime) -> str | None:
    """Create an administrator's token of the first organization, unless there is any token; return its text."""
    # Several nodes may start at once.
    lock_organization(connection, DEFAULT_ORGANIZATION)
    if has_tokens(connection):
        return None
    new = NewToken(user_id="admin", name="first", scopes=(ADMIN,))
    return create_token(connection, new, Principal(DEFAULT_ORGANIZATION), now)[1]


def revoke_token(connection: Connection, public: str, by: Principal, now: datetime) -> Token:
    """Revoke the token and return it; one that was revoked before stays as it is. Raises NotFound."""
    token = _get(connection, public)
    if set_revoked(connection, token.id, now):
        _note(connection, by, AuditAction.TOKEN_REVOKED, token, now)
    return token


def replace_token(
    connection: Connection, public: str, by: Principal, now: datetime, overlap: timedelta
) -> tuple[Token, str]:
    """Create a token like this one, which expires after ``overlap``; return the new one and its text.

    Raises NotFound, or InvalidInput for one that is revoked or expired.
    """
    old = _get(connection, public)
    ends = now + overlap if old.expires_at is None else min(now + overlap, old.expires_at)
    # The old one first: who revokes or replaces it at the same time has come before, or waits.
    if not old.is_valid(now) or not (set_expiry if overlap else set_revoked)(connection, old.id, ends):
        raise InvalidInput(f"Token {old.id} is revoked or expired: create a new one")
    new = NewToken(
        organization_id=old.organization_id,
        user_id=old.user_id,
        name=old.name,
        scopes=old.scopes,
        lifetime=old.expires_at - old.created_at if old.expires_at else None,
    )
    created = create_token(connection, new, by, now)
    _note(connection, by, AuditAction.TOKEN_REVOKED, old, now, {"at": ends.isoformat()} if overlap else None)
    return created


def _get(connection: Connection, public: str) -> Token:
    # An operator may pass the whole token in place of its id; the error must not repeat it.
    named = token_id(public) or public
    token = find_token(connection, named) if named.isascii() else None
    if token is None:
        raise NotFound("There is no token with that id")
    return token


def check_name(name: str) -> None:
    """Raise InvalidInput for what cannot be the name of a user, a token or an organization."""
    if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable() or name.isspace():
        raise InvalidInput(f"A name must have 1 to {_LONGEST_NAME} printable characters, not only spaces")


def check_scopes(scopes: Iterable[str]) -> None:
    """Raise InvalidInput for a scope that is a spelling mistake."""
    if wrong := describe_unknown(scopes):
        raise InvalidInput(wrong)


def _check(connection: Connection, new: NewToken) -> None:
    if find_organization(connection, new.organization_id) is None:
        raise InvalidInput(f"There is no organization {new.organization_id}")
    for name in (new.user_id, new.name):
        if name is not None:
            check_name(name)
    check_scopes(new.scopes)


def _note(
    connection: Connection,
    by: Principal,
    action: AuditAction,
    token: Token,
    now: datetime,
    details: dict[str, object] | None = None,
) -> None:
    # The actor may belong to no organization: the entry goes to the token's.
    entry = entry_by(replace(by, organization_id=token.organization_id), action, now, subject=token.id, details=details)
    add_entries(connection, [entry])
