"""Authenticates requests: by a token, by a JWT, or not at all on an open server."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from unpause.auth.tokens import PREFIX, hash_of, is_token_id, token_id
from unpause.domain.principal import DEFAULT_ORGANIZATION, Principal
from unpause.errors import DatabaseBusy, DatabaseUnavailable, Unauthenticated
from unpause.store.tokens import find_token, touch_tokens
from unpause.store.users import find_organization

if TYPE_CHECKING:
    from datetime import datetime

    from unpause.clock import Clock
    from unpause.domain.tokens import Token
    from unpause.store.engine.database import Database

_SCHEME = "bearer"
# A token revoked by another process stays valid here for so long; without a cache each request would read the database.
_CACHED_FOR = timedelta(seconds=2)
_MAX_CACHED = 10_000
# No valid header is longer.
_LONGEST = 16_384

# AgentOS's texts: with a security key, and with JWTs.
MISSING = "Authorization header required"
MISSING_JWT = "Authorization header missing"
INVALID = "Invalid authentication token"
EXPIRED = "Token has expired"


class JwtReader(Protocol):
    """Checks a JWT."""

    async def read(self, text: str) -> Principal:
        """Return its principal; raise Unauthenticated."""
        ...


@dataclass(frozen=True, slots=True)
class _CachedToken:
    token: Token
    until: datetime


class Authenticator:
    """Identifies callers. Implements ``execution.sweeper.Sweep``: a sweep stores when tokens were last used.

    With ``is_open`` there is no authentication: every client has all scopes in the first organization.
    """

    def __init__(self, database: Database, clock: Clock, jwts: JwtReader | None, *, is_open: bool) -> None:
        self._database = database
        self._clock = clock
        self._jwts = jwts
        self.is_open = is_open
        self._cache: dict[str, _CachedToken] = {}
        self._organizations: set[int] = set()
        self._used: dict[str, datetime] = {}

    async def identify(self, authorization: str | None, *, in_outages: bool = False) -> Principal:
        """Return the principal of an ``Authorization`` header, with the scheme ``Bearer`` or without.

        Raises Unauthenticated, or DatabaseUnavailable. With ``in_outages`` a token that was valid when the database
        was last asked stays so while that is away.
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
        return await self._by_token(text, in_outages=in_outages)

    async def sweep(self) -> int:
        """Store when tokens were last used; return how many."""
        used, self._used = self._used, {}
        if used:
            try:
                await self._database.write(lambda connection: touch_tokens(connection, used.items()), waits=False)
            except DatabaseBusy:
                self._used = {**used, **self._used}
                raise
        return len(used)

    async def _by_token(self, text: str, *, in_outages: bool) -> Principal:
        public = token_id(text)
        token = None if public is None else await self._find(public, in_outages=in_outages)
        # The same work for a token that does not exist: the time taken reveals nothing.
        matches = hmac.compare_digest(hash_of(text), token.hash if token is not None else hash_of(""))
        now = self._clock.now()
        if token is None or not matches or token.revoked_at is not None:
            raise Unauthenticated(INVALID)
        if token.is_expired(now):
            raise Unauthenticated(EXPIRED)
        self._used[token.id] = now
        return token.principal

    async def expiry_of(self, public: str) -> datetime | None:
        """Return when the token with this id expires; None for one that does not, and where there is none."""
        token = await self._find(public) if is_token_id(public) else None
        return None if token is None else token.expires_at

    async def holder_of(self, public: str) -> tuple[str, Principal]:
        """Return the hash and the principal of the token with this id; raise Unauthenticated unless it is valid."""
        token = await self._find(public) if is_token_id(public) else None
        if token is None or not token.is_valid(self._clock.now()):
            raise Unauthenticated(INVALID)
        return token.hash, token.principal

    async def _find(self, public: str, *, in_outages: bool = False) -> Token | None:
        now = self._clock.now()
        known = self._cache.get(public)
        # A later end means that the clock was set back since.
        if known is not None and now < known.until <= now + _CACHED_FOR:
            return known.token
        if known is not None and in_outages and self._database.availability.is_away:
            return known.token
        try:
            token = await self._database.read(lambda connection: find_token(connection, public))
        except DatabaseUnavailable:
            if known is None or not in_outages:
                raise
            return known.token
        if len(self._cache) >= _MAX_CACHED:
            self._cache.clear()
        if token is not None:
            self._cache[public] = _CachedToken(token, now + _CACHED_FOR)
        else:
            # Guesses must not fill the cache.
            self._cache.pop(public, None)
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
    """Return the token of the header, with the scheme ``Bearer`` or without; empty where there is none."""
    header = (authorization or "").strip()
    scheme, _, rest = header.partition(" ")
    if scheme.lower() == _SCHEME:
        return rest.strip()
    # Another scheme, such as Basic, carries no token.
    return "" if rest else header
