"""Authenticates each request before anything but its head is read, and limits concurrent requests."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import JSONResponse

from unpause.api.errors import body_for, refusal, status_of
from unpause.api.middleware.console_cookie import check_same_origin, cookie_of
from unpause.api.permissions import CODEGEN_PREFIX, METRICS_PATH, is_public
from unpause.errors import RateLimited, Unauthenticated, UnpauseError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from unpause.auth.authenticator import Authenticator
    from unpause.auth.console_sessions import ConsoleSessions
    from unpause.auth.stream_tickets import StreamTickets
    from unpause.domain.principal import Principal

# The text of Codegen's documentation.
_CODEGEN_UNAUTHENTICATED = "Invalid or missing API token"
_RETRY_AFTER_SECONDS = 1
# The one route that accepts a stream ticket in place of the header.
_EVENTS = re.compile(r"GET /agents/[^/]+/runs/([^/]+)/events")
# Long enough for IPv6 with a zone.
_LONGEST_ADDRESS = 64


class _TokenInvalidated(Exception):
    """Stops a response whose token was revoked or has expired."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What identifies callers: a header, or without one a stream ticket or the console's cookie.

    ``public_url`` is where browsers reach this server, if that is not where the requests of a proxy go.
    """

    authenticator: Authenticator
    tickets: StreamTickets
    console_sessions: ConsoleSessions
    public_url: str | None = None

    def is_browser(self, scope: Scope) -> bool:
        """Whether the request has the console's cookie and nothing that goes before it."""
        return "authorization" not in Headers(scope=scope) and cookie_of(scope, self.public_url) is not None

    def of_request(self, scope: Scope) -> Callable[[], Awaitable[Principal]]:
        """Return what identifies the caller, now and at each check; raise Forbidden for a cookie from another site."""
        authorization = Headers(scope=scope).get("authorization")
        if authorization is None and not self.authenticator.is_open:
            followed = _EVENTS.fullmatch(f"{scope['method']} {scope['path']}")
            ticket = QueryParams(scope["query_string"]).get("ticket") if followed else None
            if followed and ticket:
                return partial(self.tickets.identify, ticket, followed[1])
            cookie = cookie_of(scope, self.public_url)
            if cookie is not None:
                check_same_origin(scope, self.public_url)
                return partial(self.console_sessions.identify, cookie)
        # The metrics say that the database is away.
        return partial(self.authenticator.identify, authorization, in_outages=scope["path"] == METRICS_PATH)


class ConcurrencyLimits:
    """Limits how many requests and streams of each token are open in this process."""

    def __init__(self, max_requests: int, max_streams: int) -> None:
        self._most = {"requests": max_requests, "streams": max_streams}
        self._open: Counter[tuple[str, str | None]] = Counter()

    def acquire(self, kind: str, credential: str | None) -> None:
        """Count one more of the ``requests`` or ``streams``; raise RateLimited where the limit is reached."""
        if self._open[kind, credential] >= self._most[kind]:
            raise RateLimited(
                _RETRY_AFTER_SECONDS, f"This token has reached its limit of {self._most[kind]} open {kind}"
            )
        self._open[kind, credential] += 1

    def release(self, kind: str, credential: str | None) -> None:
        """Count one less."""
        self._open[kind, credential] -= 1
        if not self._open[kind, credential]:
            del self._open[kind, credential]


class _Slot:
    """One request's share of the limits: of the requests, or of the streams once it becomes one."""

    def __init__(self, limits: ConcurrencyLimits, credential: str | None) -> None:
        self._limits = limits
        self._credential = credential
        self._kind = "requests"
        limits.acquire(self._kind, credential)

    def become_stream(self) -> None:
        """Count as a stream instead; raise RateLimited where the limit is reached."""
        if self._kind != "streams":
            self._limits.acquire("streams", self._credential)
            self._limits.release(self._kind, self._credential)
            self._kind = "streams"

    def release(self) -> None:
        """Free the share."""
        self._limits.release(self._kind, self._credential)


def count_as_stream(request: Request) -> None:
    """Count the request as a stream; raise RateLimited where its token has reached its limit.

    A server without authentication counts nothing.
    """
    slot: _Slot | None = request.scope["state"].get("slot")
    if slot is not None:
        slot.become_stream()


class AuthenticationMiddleware:
    """Writes the caller's principal into the request's state; answers 401 without a valid credential.

    Answers 429 to a token with too many open requests or streams. A long response ends when its token is revoked or
    expires: it is checked again every ``recheck_seconds``.
    """

    def __init__(
        self,
        app: ASGIApp,
        credentials: Credentials,
        limits: ConcurrencyLimits,
        recheck_seconds: float,
    ) -> None:
        self._app = app
        self._credentials = credentials
        self._limits = limits
        self._recheck_seconds = recheck_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its principal."""
        if scope["type"] != "http" or is_public(scope["path"]):
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        try:
            identify = self._credentials.of_request(scope)
            principal = await identify()
            slot = None if self._credentials.authenticator.is_open else _Slot(self._limits, principal.credential)
        except UnpauseError as error:
            await _refusal(scope, error)(scope, receive, send)
            return
        state["principal"] = replace(principal, address=address_of_client(scope))
        if self._credentials.is_browser(scope):
            send = _not_kept(send)
        if slot is None:
            await self._app(scope, receive, send)
            return
        state["slot"] = slot
        try:
            await self._respond(identify, scope, receive, send)
        finally:
            slot.release()

    async def _respond(
        self, identify: Callable[[], Awaitable[Principal]], scope: Scope, receive: Receive, send: Send
    ) -> None:
        response = _CheckedResponse(identify, send, self._recheck_seconds)
        try:
            await self._app(scope, receive, response.send)
        except* _TokenInvalidated:
            # A group because it may have been raised in a task group.
            pass
        if response.refused is None:
            return
        if response.is_started:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await _refusal(scope, response.refused)(scope, receive, send)


def _not_kept(send: Send) -> Send:
    """Have no cache keep a response to a browser: after signing out nothing of it may be left."""

    async def send_with_header(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).setdefault("Cache-Control", "no-store")
        await send(message)

    return send_with_header


class _CheckedResponse:
    """A response that stops once its token is revoked or has expired."""

    def __init__(self, identify: Callable[[], Awaitable[Principal]], send: Send, recheck_seconds: float) -> None:
        self._identify = identify
        self._send = send
        self._recheck_seconds = recheck_seconds
        self._loop = asyncio.get_running_loop()
        self._recheck_at = self._loop.time() + recheck_seconds
        self.is_started = False
        self.refused: Unauthenticated | None = None

    async def send(self, message: Message) -> None:
        """Send the message; raise _TokenInvalidated instead once the token is revoked or has expired."""
        if self._loop.time() >= self._recheck_at:
            await self._recheck()
        self.is_started = True
        await self._send(message)

    async def _recheck(self) -> None:
        self._recheck_at = self._loop.time() + self._recheck_seconds
        try:
            await self._identify()
        except Unauthenticated as error:
            self.refused = error
            raise _TokenInvalidated from None
        except UnpauseError:
            # The database is unavailable: the token stays valid until the next check.
            return


def address_of_client(scope: Scope) -> str | None:
    """Return the client's IP address, from a trusted proxy's header where there is one (``cli/serve.py``)."""
    client = scope.get("client")
    return str(client[0])[:_LONGEST_ADDRESS] if client else None


def _refusal(scope: Scope, error: UnpauseError) -> JSONResponse:
    if not isinstance(error, Unauthenticated):
        return refusal(scope, error)
    path, status = scope["path"], status_of(error)
    message = _CODEGEN_UNAUTHENTICATED if path.startswith(CODEGEN_PREFIX) else error.message
    return JSONResponse(body_for(path, status, message), status)
