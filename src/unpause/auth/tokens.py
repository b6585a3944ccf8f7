"""Makes, revokes and replaces tokens: random, shown once, kept as a hash."""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from unpause.domain.audit import AuditAction, done_by
from unpause.domain.principal import DEFAULT_ORGANIZATION, Principal
from unpause.domain.scopes import ADMIN, USUAL, is_known
from unpause.domain.tokens import Token
from unpause.errors import InvalidInput, NotFound
from unpause.store.audit import add_entries
from unpause.store.tokens import add_token, expire_token, find_token, has_tokens, revoke_token
from unpause.store.users import ensure_user, find_organization, lock_organization

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from unpause.store.engine.database import Connection

PREFIX = "unp_"
# Letters and digits alone: an id that began with a dash would be an option on the command line.
_ID_CHARACTERS = string.ascii_letters + string.digits
_ID_LENGTH = 8
_SECRET_BYTES = 32
# `unp_`, the id, and the secret: 43 characters of URL-safe base64, which has no dot.
_SHAPE = re.compile(r"unp_([A-Za-z0-9_-]{8})\.[A-Za-z0-9_-]{43}")
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """What a token is to be for. Without a ``user_id`` it acts for whomever each request names."""

    organization_id: int = DEFAULT_ORGANIZATION
    user_id: str | None = None
    name: str | None = None
    scopes: tuple[str, ...] = USUAL
    lifetime: timedelta | None = None


def token_id(text: str) -> str | None:
    """Return the part of a token that is no secret, or None where the text is no token."""
    found = _SHAPE.fullmatch(text)
    return None if found is None else found[1]


def hash_of(text: str) -> str:
    """Return what is kept of a token: with 256 random bits in it, one round of SHA-256 is enough."""
    return hashlib.sha256(text.encode()).hexdigest()


def make_token(connection: Connection, wanted: NewToken, by: Principal, now: datetime) -> tuple[Token, str]:
    """Keep a new token; return it, and the text that proves it, which is kept nowhere.

    Raises InvalidInput for an organization that does not exist, a scope that means nothing, or a bad name.
    """
    _check(connection, wanted)
    public = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))
    text = f"{PREFIX}{public}.{secrets.token_urlsafe(_SECRET_BYTES)}"
    token = Token(
        id=public,
        organization_id=wanted.organization_id,
        user_id=wanted.user_id,
        name=wanted.name,
        hash=hash_of(text),
        scopes=tuple(dict.fromkeys(wanted.scopes)),
        created_at=now,
        expires_at=now + wanted.lifetime if wanted.lifetime else None,
    )
    add_token(connection, token)
    if wanted.user_id is not None:
        role = "ADMIN" if ADMIN in wanted.scopes else "MEMBER"
        ensure_user(connection, wanted.organization_id, wanted.user_id, role, now)
    details: dict[str, object] = {"user_id": token.user_id, "scopes": list(token.scopes)}
    _note(connection, by, AuditAction.TOKEN_CREATED, token, now, details)
    return token, text


def make_first_token(connection: Connection, now: datetime) -> str | None:
    """Make an administrator's token of the first organization, unless there is any token; return its text."""
    # Several nodes may start at once.
    lock_organization(connection, DEFAULT_ORGANIZATION)
    if has_tokens(connection):
        return None
    wanted = NewToken(user_id="admin", name="first", scopes=(ADMIN,))
    return make_token(connection, wanted, Principal(DEFAULT_ORGANIZATION), now)[1]


def end_token(connection: Connection, public: str, by: Principal, now: datetime) -> Token:
    """Have the token count no more, and return it; one that was revoked before stays so. Raises NotFound."""
    token = _get(connection, public)
    if revoke_token(connection, token.id, now):
        _note(connection, by, AuditAction.TOKEN_REVOKED, token, now)
    return token


def replace_token(
    connection: Connection, public: str, by: Principal, now: datetime, overlap: timedelta
) -> tuple[Token, str]:
    """Make a token like this one, which counts no more after ``overlap``; return it and its text.

    Raises NotFound, or InvalidInput for one that is of no use any more.
    """
    old = _get(connection, public)
    if not old.is_valid(now):
        raise InvalidInput(f"Token {old.id} is revoked or expired: make a new one")
    lifetime = old.expires_at - old.created_at if old.expires_at else None
    wanted = NewToken(
        organization_id=old.organization_id,
        user_id=old.user_id,
        name=old.name,
        scopes=old.scopes,
        lifetime=lifetime,
    )
    made = make_token(connection, wanted, by, now)
    if overlap:
        expire_token(connection, old.id, now + overlap)
        _note(connection, by, AuditAction.TOKEN_REVOKED, old, now, {"at": (now + overlap).isoformat()})
    else:
        end_token(connection, old.id, by, now)
    return made


def _get(connection: Connection, public: str) -> Token:
    # Somebody may give the whole token where its id is enough; then what is wrong must not show it.
    named = token_id(public) or public
    token = find_token(connection, named) if named.isascii() else None
    if token is None:
        raise NotFound("There is no token of that id")
    return token


def check_name(name: str) -> None:
    """Raise InvalidInput for what cannot be the name of a user, a token or an organization."""
    if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable():
        raise InvalidInput(f"A name has 1 to {_LONGEST_NAME} printable characters")


def _check(connection: Connection, wanted: NewToken) -> None:
    if find_organization(connection, wanted.organization_id) is None:
        raise InvalidInput(f"There is no organization {wanted.organization_id}")
    for name in (wanted.user_id, wanted.name):
        if name is not None:
            check_name(name)
    if unknown := [scope for scope in wanted.scopes if not is_known(scope)]:
        raise InvalidInput(f"Unknown scope: {', '.join(unknown)} (known: {', '.join((*USUAL, ADMIN))}, …)")


def _note(
    connection: Connection,
    by: Principal,
    action: AuditAction,
    token: Token,
    now: datetime,
    details: dict[str, object] | None = None,
) -> None:
    # Who did it may belong to no organization: it is told where the token belongs.
    entry = done_by(replace(by, organization_id=token.organization_id), action, now, subject=token.id, details=details)
    add_entries(connection, [entry])
