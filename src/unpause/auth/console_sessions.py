"""Signs browsers in to the console: with a token or a one-time link, for a cookie that acts as that token.

A session has the scopes of its token and ends with it. The database has only the hash of the cookie's value, and of a
link's code: with 256 random bits, one round of SHA-256 is enough.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from unpause.auth.authenticator import EXPIRED, INVALID
from unpause.auth.tokens import create_token, hash_of
from unpause.domain.audit import AuditAction, entry_by
from unpause.domain.tokens import ConsoleCredential
from unpause.errors import InvalidInput, Unauthenticated
from unpause.store.audit import add_entries
from unpause.store.console_sessions import (
    add_console_session,
    add_login_link,
    delete_console_session,
    find_console_session,
    use_login_link,
)
from unpause.store.tokens import find_token

if TYPE_CHECKING:
    from datetime import datetime

    from unpause.auth.authenticator import Authenticator
    from unpause.auth.tokens import NewToken
    from unpause.clock import Clock
    from unpause.domain.principal import Principal
    from unpause.domain.tokens import Token
    from unpause.store.engine.database import Connection, Database

LINK_LIFETIME: Final = timedelta(minutes=15)
# What a link signs in ends then, whatever the server's setting is.
LINKED_LIFETIME: Final = timedelta(hours=12)

_SECRET_BYTES = 32
_SHAPE = re.compile(r"[A-Za-z0-9_-]{43}")
# As long as a token: a session that another process has ended stays valid here for so long.
_CACHED_FOR = timedelta(seconds=2)
_MAX_CACHED = 10_000

USED_UP: Final = "This link was used before or has expired: create a new one with `unpause login-link`"
_NOT_STORED = "Paste a token of this server; for users of JWTs there is `unpause login-link`"
_OPEN = "This server has no authentication: there is nothing to sign in to"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A new session: the cookie's value, which is stored nowhere, and when it expires."""

    cookie: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class _Cached:
    session: ConsoleCredential
    until: datetime


class ConsoleSessions:
    """The sessions of browsers."""

    def __init__(self, database: Database, clock: Clock, authenticator: Authenticator, lifetime: timedelta) -> None:
        self._database = database
        self._clock = clock
        self._authenticator = authenticator
        self._lifetime = lifetime
        self._cache: dict[str, _Cached] = {}

    async def sign_in(self, text: str, address: str | None) -> SignedIn:
        """Return a session of the token with this text.

        Raises Unauthenticated for a token that is not valid or is a JWT, InvalidInput on a server without
        authentication.
        """
        self._check_needed()
        principal = await self._authenticator.identify(text)
        token_id = principal.token_id
        if token_id is None or principal.is_nameless_jwt:
            raise Unauthenticated(_NOT_STORED)
        return await self._database.write(lambda connection: self._add(connection, token_id, address))

    async def sign_in_by_link(self, code: str, address: str | None) -> SignedIn:
        """Return a session of the link with this code, which is used up then.

        Raises Unauthenticated for one that was used, has expired or is none, InvalidInput on a server without
        authentication.
        """
        self._check_needed()

        def unit(connection: Connection) -> SignedIn:
            token_id = use_login_link(connection, hash_of(code), self._clock.now())
            if token_id is None:
                raise Unauthenticated(USED_UP)
            return self._add(connection, token_id, address)

        if _SHAPE.fullmatch(code) is None:
            raise Unauthenticated(USED_UP)
        return await self._database.write(unit)

    async def sign_out(self, cookie: str, address: str | None) -> None:
        """End the session, if there is one."""
        if _SHAPE.fullmatch(cookie) is None:
            return
        hashed = hash_of(cookie)

        def unit(connection: Connection) -> None:
            session = find_console_session(connection, hashed)
            token = None if session is None else find_token(connection, session.token_id)
            if token is not None and delete_console_session(connection, hashed):
                self._note(connection, AuditAction.SIGNED_OUT, token, address)

        await self._database.write(unit)
        self._cache.pop(hashed, None)

    async def identify(self, cookie: str) -> Principal:
        """Return the principal of the session's token; raise Unauthenticated, or DatabaseUnavailable."""
        session = await self.get_session(cookie)
        _, principal = await self._authenticator.holder_of(session.token_id)
        return principal

    async def get_session(self, cookie: str) -> ConsoleCredential:
        """Return the session of the cookie, whose token may be revoked; raise Unauthenticated."""
        session = await self._find(hash_of(cookie)) if _SHAPE.fullmatch(cookie) else None
        if session is None:
            raise Unauthenticated(INVALID)
        if session.expires_at <= self._clock.now():
            raise Unauthenticated(EXPIRED)
        return session

    async def _find(self, hashed: str) -> ConsoleCredential | None:
        now = self._clock.now()
        known = self._cache.get(hashed)
        # A later end means that the clock was set back since.
        if known is not None and now < known.until <= now + _CACHED_FOR:
            return known.session
        session = await self._database.read(lambda connection: find_console_session(connection, hashed))
        if len(self._cache) >= _MAX_CACHED:
            self._cache.clear()
        if session is not None:
            self._cache[hashed] = _Cached(session, now + _CACHED_FOR)
        else:
            self._cache.pop(hashed, None)
        return session

    def _check_needed(self) -> None:
        if self._authenticator.is_open:
            raise InvalidInput(_OPEN)

    def _add(self, connection: Connection, token_id: str, address: str | None) -> SignedIn:
        now = self._clock.now()
        token = find_token(connection, token_id)
        if token is None or not token.is_valid(now):
            raise Unauthenticated(INVALID)
        expires = now + self._lifetime
        if token.expires_at is not None:
            expires = min(expires, token.expires_at)
        cookie = secrets.token_urlsafe(_SECRET_BYTES)
        add_console_session(connection, ConsoleCredential(hash_of(cookie), token_id, now, expires))
        self._note(connection, AuditAction.SIGNED_IN, token, address)
        return SignedIn(cookie, expires)

    def _note(self, connection: Connection, action: AuditAction, token: Token, address: str | None) -> None:
        by = replace(token.principal, via="console", address=address)
        add_entries(connection, [entry_by(by, action, self._clock.now(), subject=token.id)])


def create_login_link(connection: Connection, new: NewToken, by: Principal, now: datetime) -> str:
    """Create a one-time link and the token that it acts as; return the link's code, which is stored nowhere.

    The token's text is known to nobody; the token is listed, and revoking it ends what the link signed in. Raises
    InvalidInput as ``create_token``.
    """
    token, _ = create_token(connection, replace(new, lifetime=new.lifetime or LINKED_LIFETIME), by, now)
    code = secrets.token_urlsafe(_SECRET_BYTES)
    add_login_link(connection, ConsoleCredential(hash_of(code), token.id, now, now + LINK_LIFETIME))
    return code
