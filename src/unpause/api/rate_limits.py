"""Rate limits by token, with header fields that tell clients what is left.

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
from unpause.rates import parse_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from unpause.bootstrap import Application


class Bucket(StrEnum):
    """Routes that share a limit; each has a setting ``rate_limit_…`` and a policy of this name in the headers."""

    CREATE = "create"
    READ = "read"
    LOGS = "logs"
    RESUME = "resume"
    CHANGE = "change"
    AG_UI = "ag_ui"
    SETUP = "setup"
    WEBHOOK_TEST = "webhook_test"
    SIGN_IN = "sign_in"


@dataclass(frozen=True, slots=True)
class RateLimitStatus:
    """A token's use of a bucket, this request included. Times are whole seconds, at least 1."""

    bucket: Bucket
    quota: int
    window: int
    used: int
    resets_in: int

    @property
    def is_over(self) -> bool:
        """Whether this request exceeds the limit."""
        return self.used > self.quota

    def headers(self) -> Mapping[str, str]:
        """Return the header fields for the client."""
        remaining = max(0, self.quota - self.used)
        return {
            "RateLimit-Policy": f'"{self.bucket}";q={self.quota};w={self.window}',
            "RateLimit": f'"{self.bucket}";r={remaining};t={self.resets_in}',
        }


class RateLimits:
    """The limits of the settings, and how much of them each token has used."""

    def __init__(self, application: Application) -> None:
        self._counts = application.rate_counts
        self._clock = application.clock
        settings = application.settings
        self._limits = {bucket: parse_rate(getattr(settings, f"rate_limit_{bucket}")) for bucket in Bucket}

    async def add(self, bucket: Bucket, token: str) -> RateLimitStatus | None:
        """Count a request of the token, in any organization; return None where the bucket has no limit.

        A sign-in has no token yet, and is counted by the client's address instead.

        Raises DatabaseUnavailable.
        """
        limit = self._limits[bucket]
        if limit is None:
            return None
        seconds = limit.seconds
        key = limit.key(bucket, hashlib.sha256(token.encode()).hexdigest())
        count = await self._counts.add(key, timedelta(seconds=seconds))
        left = math.ceil((count.ends_at - self._clock.now()).total_seconds())
        # A clock that was set back must not make clients wait longer than a window.
        return RateLimitStatus(bucket, limit.amount, seconds, count.number, min(max(1, left), seconds))


@dataclass(frozen=True, slots=True)
class _Limit:
    """The limit of a route."""

    bucket: Bucket

    async def check(self, request: Request) -> None:
        """Count the request; raise RateLimited over the limit. A request without a token is not counted."""
        credential = principal_of(request).credential or bearer(request.headers.get("authorization"))
        if not credential:
            return
        limits: RateLimits = request.app.state.rate_limits
        state = await limits.add(self.bucket, credential)
        request.state.rate = state
        if state is not None and state.is_over:
            raise RateLimited(state.resets_in)


def limited(bucket: Bucket, get_principal: Callable[..., Any]) -> Sequence[Dependency]:
    """Return the dependencies of a limited route; a request that ``get_principal`` refuses is not counted."""
    return [Depends(get_principal), Depends(_Limit(bucket).check)]


class LimitedRoute(APIRoute):
    """A route that also counts requests that FastAPI refuses before any dependency runs: a body that is no JSON."""

    @property
    def limits(self) -> Sequence[_Limit]:
        """The limits under which it stands."""
        checks = [depends.dependency for depends in self.dependencies]
        return [found for check in checks if isinstance(found := getattr(check, "__self__", None), _Limit)]

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler; over the limit it raises RateLimited before any other error."""
        handler, limits = super().get_route_handler(), self.limits
        if not limits:
            return handler

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
    """Return the header fields of the rate limit; none for a request that was not counted."""
    state: RateLimitStatus | None = getattr(request.state, "rate", None)
    return {} if state is None else state.headers()
