"""Stream tickets: with one a browser's ``EventSource``, which sends no header, follows one run for a few minutes.

A ticket is signed and stored nowhere. The key for a caller with an API token is the token's stored hash: all nodes that
share the database accept the ticket, until the token is revoked. Other callers have JWTs, which are not stored; the key
for them comes from the settings, or is this process's own. A ticket ends with the JWT that it was issued for.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from unpause.auth.authenticator import EXPIRED, INVALID
from unpause.domain.principal import Principal
from unpause.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unpause.auth.authenticator import Authenticator
    from unpause.clock import Clock

LIFETIME: Final = timedelta(minutes=5)


class _Claims(NamedTuple):
    """What a ticket says: the run, the second it expires, and the caller."""

    run_id: str
    expires: int
    organization_id: int
    subject: str | None
    token_id: str | None
    scopes: list[str]


class StreamTickets:
    """Issues and verifies tickets. Of the keys for callers with JWTs the first one signs, all verify."""

    def __init__(self, authenticator: Authenticator, clock: Clock, keys: Sequence[bytes]) -> None:
        self._authenticator = authenticator
        self._clock = clock
        self._keys = keys

    async def issue(self, principal: Principal, run_id: str) -> tuple[str, datetime]:
        """Return a ticket of the caller for the run, and when it expires."""
        ends = [self._clock.now() + LIFETIME, *([principal.expires_at] if principal.expires_at else [])]
        expires = min(ends).replace(microsecond=0)
        claims = _Claims(
            run_id,
            int(expires.timestamp()),
            principal.organization_id,
            principal.subject,
            principal.token_id,
            sorted(principal.scopes or ()),
        )
        keys, _ = await self._keys_of(claims)
        payload = urlsafe_b64encode(json.dumps(claims, separators=(",", ":")).encode()).decode().rstrip("=")
        return f"{payload}.{_signature(keys[0], payload)}", expires

    async def identify(self, ticket: str, run_id: str) -> Principal:
        """Return the caller that the ticket was issued to, with the present scopes of its token.

        Raises Unauthenticated for a ticket that is no ticket, is for another run or has expired, and where the token is
        revoked or has expired; DatabaseUnavailable.
        """
        payload, _, signature = ticket.partition(".")
        claims = _read(payload)
        if claims is None:
            raise Unauthenticated(INVALID)
        keys, token_holder = await self._keys_of(claims)
        right = [hmac.compare_digest(_signature(key, payload).encode(), signature.encode()) for key in keys]
        if not any(right) or claims.run_id != run_id:
            raise Unauthenticated(INVALID)
        if self._clock.now().timestamp() >= claims.expires:
            raise Unauthenticated(EXPIRED)
        return token_holder or Principal(
            claims.organization_id,
            claims.subject,
            subject=claims.subject,
            scopes=frozenset(claims.scopes),
            token_id=claims.token_id,
        )

    async def _keys_of(self, claims: _Claims) -> tuple[Sequence[bytes], Principal | None]:
        """Return the keys, and for an API token the principal that it has now; raise Unauthenticated."""
        if claims.token_id is None or ":" in claims.token_id:
            return self._keys, None
        token_hash, principal = await self._authenticator.holder_of(claims.token_id)
        return [f"stream ticket {token_hash}".encode()], principal


def _read(payload: str) -> _Claims | None:
    """Return the claims, which are not yet verified; None for anything else."""
    try:
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (ValueError, RecursionError):
        return None
    match claims:
        case [str(), int(), int(), str() | None, str() | None, list(scopes)] if all(
            isinstance(scope, str) for scope in scopes
        ):
            return _Claims(*claims)
        case _:
            return None


def _signature(key: bytes, payload: str) -> str:
    digest = hmac.new(key, payload.encode(), hashlib.sha256).digest()
    return urlsafe_b64encode(digest).decode().rstrip("=")
