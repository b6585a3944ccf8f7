"""Keys that are published at an address (RFC 7517): fetched when they are needed and not known, never per request."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

import httpx
import jwt
import structlog

from unpause.auth.jwts import prepare_key
from unpause.errors import InvalidSetting, Unavailable
from unpause.tasks import SingleTask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_log = structlog.get_logger(__name__)

# However many tokens come with keys that nobody knows, the address is not asked oftener than this.
_SMALLEST_INTERVAL_SECONDS = 30.0
# Older keys are asked for again, and nobody waits for that.
_USUAL_AGE_SECONDS = 2700.0
# Keys that were taken out of the set are trusted no longer than this, as long as the address answers.
_LONGEST_AGE_SECONDS = 3600.0
_TIMEOUT_SECONDS = 5.0
_LARGEST_BYTES = 1024 * 1024

# What can go wrong on the way, and what PyJWT makes of a document that is no key set.
_FAILURES = (httpx.HTTPError, httpx.InvalidURL, jwt.PyJWTError, TimeoutError, ValueError, TypeError, AttributeError)


class PublishedKeys:
    """Implements ``auth.jwts.KeySource``."""

    def __init__(self, url: str, algorithm: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._url = url
        self._algorithm = algorithm
        self._transport = transport
        self._keys: dict[str | None, list[Any]] = {}
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._has_failed = False
        self._lock = asyncio.Lock()
        self._renewal = SingleTask("renewal of the published keys")

    async def find_keys(self, key_id: str | None) -> Sequence[Any]:
        """Return the keys with that id, or all for a token that names none; Unavailable while there were never any.

        Whose key is known waits for the address only where the keys are old and it has not just failed.
        """
        if not self._named(key_id) or (self._is_older(_LONGEST_AGE_SECONDS) and not self._has_failed):
            await self._refresh(lambda: self._is_older(_LONGEST_AGE_SECONDS) or not self._named(key_id))
        elif self._is_older(_USUAL_AGE_SECONDS):
            self._renewal.start(lambda: self._refresh(lambda: self._is_older(_USUAL_AGE_SECONDS)))
        if self._fetched_at is None:
            raise Unavailable("The keys that tokens are checked with cannot be had now")
        return self._named(key_id)

    def _named(self, key_id: str | None) -> list[Any]:
        if key_id is not None:
            return self._keys.get(key_id, [])
        return [key for keys in self._keys.values() for key in keys]

    def _is_older(self, seconds: float) -> bool:
        return self._fetched_at is None or monotonic() - self._fetched_at > seconds

    async def _refresh(self, is_needed: Callable[[], bool]) -> None:
        async with self._lock:
            was_just_tried = self._tried_at is not None and monotonic() - self._tried_at <= _SMALLEST_INTERVAL_SECONDS
            # Whoever waited here finds what the one before fetched.
            if not is_needed() or was_just_tried:
                return
            self._tried_at = monotonic()
            try:
                self._keys = await self._fetch()
            except (*_FAILURES, RecursionError) as error:
                self._has_failed = True
                _log.warning("the published keys could not be fetched", error=type(error).__name__)
                return
            self._has_failed = False
            self._fetched_at = monotonic()

    async def _fetch(self) -> dict[str | None, list[Any]]:
        async with (
            httpx.AsyncClient(timeout=_TIMEOUT_SECONDS, transport=self._transport) as client,
            asyncio.timeout(_TIMEOUT_SECONDS),
            client.stream("GET", self._url, headers={"Accept": "application/json"}) as response,
        ):
            response.raise_for_status()
            body = b""
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > _LARGEST_BYTES:
                    raise ValueError("too large a key set")
        found: dict[str | None, list[Any]] = {}
        for key in jwt.PyJWKSet.from_json(body.decode()).keys:
            # Secrets are not published; one that is must not be trusted.
            if key.key_type == "oct" or key.public_key_use not in {None, "sig"}:
                continue
            try:
                # A set may hold keys for other algorithms, too.
                found.setdefault(key.key_id, []).append(prepare_key(key.key, self._algorithm))
            except InvalidSetting:
                continue
        return found
