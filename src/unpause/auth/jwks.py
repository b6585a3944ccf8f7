"""Published keys (RFC 7517): fetched when a key is unknown or old, never per request."""

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

# The URL is not fetched more often, however many tokens name unknown keys.
_SMALLEST_INTERVAL_SECONDS = 30.0
# Older keys are refreshed in the background.
_REFRESH_AGE_SECONDS = 2700.0
# Keys removed from the set are trusted no longer than this while the URL answers.
_LONGEST_AGE_SECONDS = 3600.0
_TIMEOUT_SECONDS = 5.0
_LARGEST_BYTES = 1024 * 1024

# Network errors, and PyJWT's errors about a document that is no key set.
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
        self._refreshing = SingleTask("refresh of the published keys")

    async def find_keys(self, key_id: str | None) -> Sequence[Any]:
        """Return the keys with that id, or all for a token that names none; raise Unavailable before the first fetch.

        A caller with a known key waits for a fetch only where the keys are old and the last fetch did not fail.
        """
        if not self._named(key_id) or (self._is_older(_LONGEST_AGE_SECONDS) and not self._has_failed):
            await self._refresh(lambda: self._is_older(_LONGEST_AGE_SECONDS) or not self._named(key_id))
        elif self._is_older(_REFRESH_AGE_SECONDS):
            self._refreshing.start(lambda: self._refresh(lambda: self._is_older(_REFRESH_AGE_SECONDS)))
        if self._fetched_at is None:
            raise Unavailable("The keys to verify tokens with are unavailable. Try again.")
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
            # Another task may have fetched while this one waited.
            if not is_needed() or was_just_tried:
                return
            self._tried_at = monotonic()
            try:
                self._keys = await self._fetch()
            except (*_FAILURES, RecursionError) as error:
                self._has_failed = True
                _log.warning("jwks fetch failed", error=type(error).__name__)
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
                    raise ValueError("the key set is too large")
        found: dict[str | None, list[Any]] = {}
        for key in jwt.PyJWKSet.from_json(body.decode()).keys:
            # A published secret must not be trusted.
            if key.key_type == "oct" or key.public_key_use not in {None, "sig"}:
                continue
            try:
                # A set may contain keys for other algorithms, too.
                found.setdefault(key.key_id, []).append(prepare_key(key.key, self._algorithm))
            except InvalidSetting:
                continue
        return found
