"""Limits how often one token may ask, and says in each answer how much is left.

The headers are those of draft-ietf-httpapi-ratelimit-headers-10: ``RateLimit-Policy`` has the quota ``q`` of a window
of ``w`` seconds, ``RateLimit`` has ``r``, what remains of it, for the next ``t`` seconds.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from fastapi import Depends
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends as Dependency
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from unpause.api.permissions import principal_of
from unpause.auth.authenticator import bearer
from unpause.errors import RateLimited
from unpause.settings import parse_rate_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from unpause.bootstrap import Application


class Bucket(StrEnum):
    """What is counted together; each has a setting ``rate_limit_…`` and is a policy of this name in the headers."""

    CREATE = "create"
    READ = "read"
    LOGS = "logs"
    RESUME = "resume"
    CHANGE = "change"
    SETUP = "setup"
    WEBHOOK_TEST = "webhook_test"


@dataclass(frozen=True, slots=True)
class RateState:
    """How a token stands in a bucket once this request is counted. Times are whole seconds, at least 1."""

    bucket: Bucket
    quota: int
    window: int
    number: int
    resets_in: int

    @property
    def is_over(self) -> bool:
        """Whether this request was one too many."""
        return self.number > self.quota

    def headers(self) -> Mapping[str, str]:
        """Return the header fields that tell a client of it."""
        remaining = max(0, self.quota - self.number)
        return {
            "RateLimit-Policy": f'"{self.bucket}";q={self.quota};w={self.window}',
            "RateLimit": f'"{self.bucket}";r={remaining};t={self.resets_in}',
        }


class RateLimits:
    """The limits of the settings, and who has used how much of them."""

    def __init__(self, application: Application) -> None:
        self._counts = application.counts
        self._clock = application.clock
        settings = application.settings
        self._limits = {bucket: parse_rate_limit(getattr(settings, f"rate_limit_{bucket}")) for bucket in Bucket}

    async def add(self, bucket: Bucket, token: str) -> RateState | None:
        """Count a request with the token, in whatever organization; None where the bucket has no limit.

        Raises DatabaseUnavailable where the counts are out of reach.
        """
        limit = self._limits[bucket]
        if limit is None:
            return None
        seconds = limit.get_expiry()
        # The limit is part of the key: with another one, the counting starts anew.
        key = limit.key_for(bucket, hashlib.sha256(token.encode()).hexdigest())
        count = await self._counts.add(key, timedelta(seconds=seconds))
        left = math.ceil((count.ends_at - self._clock.now()).total_seconds())
        # A clock that was put back must not send clients to sleep for longer than a window.
        return RateState(bucket, limit.amount, seconds, count.number, min(max(1, left), seconds))


@dataclass(frozen=True, slots=True)
class _Limit:
    """The limit that a route stands under."""

    bucket: Bucket

    async def check(self, request: Request) -> None:
        """Count the request; raise RateLimited for one too many. Without a token there is nothing to count by."""
        who = principal_of(request).credential or bearer(request.headers.get("authorization"))
        if not who:
            return
        limits: RateLimits = request.app.state.rate_limits
        state = await limits.add(self.bucket, who)
        request.state.rate = state
        if state is not None and state.is_over:
            raise RateLimited(state.resets_in)


def limited(bucket: Bucket, who: Callable[..., Any]) -> Sequence[Dependency]:
    """Return the dependencies of a limited route: ``who`` says who asks, and whom it refuses is not counted."""
    return [Depends(who), Depends(_Limit(bucket).check)]


class LimitedRoute(APIRoute):
    """A route that counts, too, what FastAPI refuses before any dependency runs: a body that is no JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler; it raises RateLimited before anything else is said about a request too many."""
        handler = super().get_route_handler()
        checks = [depends.dependency for depends in self.dependencies]
        limits = [found for check in checks if isinstance(found := getattr(check, "__self__", None), _Limit)]

        async def counted(request: Request) -> Response:
            try:
                return await handler(request)
            except RequestValidationError:
                for limit in limits:
                    if not hasattr(request.state, "rate"):
                        await limit.check(request)
                raise

        return counted


def rate_headers(request: Request) -> Mapping[str, str]:
    """Return what the answer has to say about the limit; nothing for a request that was not counted."""
    state: RateState | None = getattr(request.state, "rate", None)
    return {} if state is None else state.headers()
