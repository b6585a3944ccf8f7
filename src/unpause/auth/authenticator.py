"""From what a request proves itself with to who asks: a token of ours, a JWT, or nothing where nobody is asked."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from unpause.auth.tokens import PREFIX, hash_of, token_id
from unpause.domain.principal import DEFAULT_ORGANIZATION, Principal
from unpause.errors import DatabaseBusy, Unauthenticated
from unpause.store.tokens import find_token, touch_tokens
from unpause.store.users import find_organization

if TYPE_CHECKING:
    from datetime import datetime

    from unpause.clock import Clock
    from unpause.domain.tokens import Token
    from unpause.store.engine.database import Database

_SCHEME = "bearer"
# A token that was revoked elsewhere may still count for so long; without that each request would ask the database.
_REMEMBERED = timedelta(seconds=2)
_MOST_REMEMBERED = 10_000
# Longer ones are not looked at: no header that means something is.
_LONGEST = 16_384

# AgentOS's words: with a security key, and with JWTs.
MISSING = "Authorization header required"
MISSING_JWT = "Authorization header missing"
INVALID = "Invalid authentication token"
EXPIRED = "Token has expired"


class JwtReader(Protocol):
    """Checks a JWT."""

    async def read(self, text: str) -> Principal:
        """Return who it speaks for; raise Unauthenticated."""
        ...


@dataclass(frozen=True, slots=True)
class _Remembered:
    token: Token
    until: datetime


class Authenticator:
    """Says who asks. Implements ``execution.sweeper.Sweep``: when tokens were used is written down now and then.

    ``is_open`` asks nobody: everybody belongs to the first organization and may do everything.
    """

    def __init__(self, database: Database, clock: Clock, jwts: JwtReader | None, *, is_open: bool) -> None:
        self._database = database
        self._clock = clock
        self._jwts = jwts
        self.is_open = is_open
        self._remembered: dict[str, _Remembered] = {}
        self._organizations: set[int] = set()
        self._used: dict[str, datetime] = {}

    async def identify(self, authorization: str | None) -> Principal:
        """Return who sent this ``Authorization``, with the scheme ``Bearer`` or without; raise Unauthenticated.

        Raises DatabaseUnavailable where that cannot be found out now.
        """
        if self.is_open:
            return Principal(DEFAULT_ORGANIZATION)
        text = bearer(authorization)
        if not text:
            raise Unauthenticated(MISSING if self._jwts is None else MISSING_JWT)
        if len(text) > _LONGEST:
            raise Unauthenticated(INVALID)
        if self._jwts is not None and not text.startswith(PREFIX):
            principal = await self._jwts.read(text)
            await self._check_organization(principal)
            return principal
        return await self._by_token(text)

    async def sweep(self) -> int:
        """Write down when tokens were last used; return how many were."""
        used, self._used = self._used, {}
        if used:
            try:
                await self._database.write(lambda connection: touch_tokens(connection, used.items()), waits=False)
            except DatabaseBusy:
                self._used = {**used, **self._used}
                raise
        return len(used)

    async def _by_token(self, text: str) -> Principal:
        public = token_id(text)
        token = None if public is None else await self._find(public)
        # The same work for a token that does not exist: how long it takes says nothing.
        is_it = hmac.compare_digest(hash_of(text), token.hash if token is not None else hash_of(""))
        now = self._clock.now()
        if token is None or not is_it or token.revoked_at is not None:
            raise Unauthenticated(INVALID)
        if token.is_expired(now):
            raise Unauthenticated(EXPIRED)
        self._used[token.id] = now
        return Principal(
            token.organization_id,
            token.user_id,
            subject=token.user_id,
            scopes=frozenset(token.scopes),
            token_id=token.id,
        )

    async def _find(self, public: str) -> Token | None:
        now = self._clock.now()
        known = self._remembered.get(public)
        # One that counts for longer than that is of before the clock was put back.
        if known is not None and now < known.until <= now + _REMEMBERED:
            return known.token
        token = await self._database.read(lambda connection: find_token(connection, public))
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered.clear()
        if token is not None:
            self._remembered[public] = _Remembered(token, now + _REMEMBERED)
        else:
            # Guesses are not worth remembering.
            self._remembered.pop(public, None)
        return token

    async def _check_organization(self, principal: Principal) -> None:
        organization_id = principal.organization_id
        if organization_id in self._organizations:
            return
        found = await self._database.read(lambda connection: find_organization(connection, organization_id))
        if found is None:
            raise Unauthenticated("Invalid token: unknown organization")
        self._organizations.add(organization_id)


def bearer(authorization: str | None) -> str:
    """Return the token, sent with the scheme's name before it or without; empty where there is none."""
    given = (authorization or "").strip()
    scheme, _, rest = given.partition(" ")
    if scheme.lower() == _SCHEME:
        return rest.strip()
    # Of another scheme, such as Basic, there is nothing to read here (agno.md section 2).
    return "" if rest else given
