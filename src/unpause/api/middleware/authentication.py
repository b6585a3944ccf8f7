"""Lets nobody pass who has not said who they are, before anything of the request is read but its header."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from unpause.api.errors import body_for, status_of, when_to_retry
from unpause.api.permissions import CODEGEN_PREFIX, PUBLIC
from unpause.errors import RateLimited, Unauthenticated, UnpauseError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from unpause.auth.authenticator import Authenticator

# codegen.md section 4: the table of errors in its documentation.
_CODEGEN_UNKNOWN = "Invalid or missing API token"
_RETRY_AFTER_SECONDS = 1
# Of IPv6 with a zone; what is longer is none.
_LONGEST_ADDRESS = 64


class _NoLongerKnown(Exception):
    """Stops the answer to somebody whose token counts no more."""


class Places:
    """The requests and the streams of each token that are open in this process: so many of either may be."""

    def __init__(self, max_requests: int, max_streams: int) -> None:
        self._most = {"requests": max_requests, "streams": max_streams}
        self._open: Counter[tuple[str, str | None]] = Counter()

    def take(self, kind: str, who: str | None) -> None:
        """Take a place among the ``requests`` or the ``streams``; raise RateLimited where all are taken."""
        if self._open[kind, who] >= self._most[kind]:
            raise RateLimited(_RETRY_AFTER_SECONDS, f"This token has {self._most[kind]} open {kind}, as many as it may")
        self._open[kind, who] += 1

    def free(self, kind: str, who: str | None) -> None:
        """Give a place back."""
        self._open[kind, who] -= 1
        if not self._open[kind, who]:
            del self._open[kind, who]


class Place:
    """What one request takes: a place among the requests, or as soon as it is to be a stream one among those."""

    def __init__(self, places: Places, who: str | None) -> None:
        self._places = places
        self._who = who
        self._kind = "requests"
        places.take(self._kind, who)

    def become_stream(self) -> None:
        """Take a stream's place instead; raise RateLimited, before anything was done, where all are taken."""
        if self._kind != "streams":
            self._places.take("streams", self._who)
            self._places.free(self._kind, self._who)
            self._kind = "streams"

    def free(self) -> None:
        """Give it back."""
        self._places.free(self._kind, self._who)


def open_stream(request: Request) -> None:
    """Have the request count as a stream; raise RateLimited where its token has as many as it may.

    Where nobody is asked who they are, nothing is counted.
    """
    place: Place | None = request.scope["state"].get("place")
    if place is not None:
        place.become_stream()


class Authentication:
    """Finds out who asks and writes it into the request's state; answers 401 where nobody can say.

    One token has so many requests and streams open at a time; over it: 429. An answer that takes long ends when its
    token counts no more: every ``patience`` seconds that is looked at again.
    """

    def __init__(self, app: ASGIApp, callers: Authenticator, places: Places, patience: float) -> None:
        self._app = app
        self._callers = callers
        self._places = places
        self._patience = patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its principal."""
        if scope["type"] != "http" or scope["path"] in PUBLIC:
            await self._app(scope, receive, send)
            return
        authorization = Headers(scope=scope).get("authorization")
        state = scope.setdefault("state", {})
        try:
            principal = await self._callers.identify(authorization)
            place = None if self._callers.is_open else Place(self._places, principal.credential)
        except UnpauseError as error:
            await _refusal(scope["path"], error)(scope, receive, send)
            return
        state["principal"] = replace(principal, address=_address(scope))
        if place is None:
            await self._app(scope, receive, send)
            return
        state["place"] = place
        try:
            await self._watched(authorization, scope, receive, send)
        finally:
            place.free()

    async def _watched(self, authorization: str | None, scope: Scope, receive: Receive, send: Send) -> None:
        watch = _Watch(self._callers, authorization, send, self._patience)
        try:
            await self._app(scope, receive, watch.send)
        except* _NoLongerKnown:
            # What raised it may have been in a group of tasks.
            pass
        if watch.refused is None:
            return
        if watch.is_started:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await _refusal(scope["path"], watch.refused)(scope, receive, send)


class _Watch:
    """Looks again, now and then, whether the one who is answered is still known."""

    def __init__(self, callers: Authenticator, authorization: str | None, send: Send, patience: float) -> None:
        self._callers = callers
        self._authorization = authorization
        self._send = send
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._again_at = self._loop.time() + patience
        self.is_started = False
        self.refused: Unauthenticated | None = None

    async def send(self, message: Message) -> None:
        """Send it on; raise _NoLongerKnown instead where the token counts no more."""
        if self._loop.time() >= self._again_at:
            await self._look()
        self.is_started = True
        await self._send(message)

    async def _look(self) -> None:
        self._again_at = self._loop.time() + self._patience
        try:
            await self._callers.identify(self._authorization)
        except Unauthenticated as error:
            self.refused = error
            raise _NoLongerKnown from None
        except UnpauseError:
            # Not now: whoever was known stays so until it turns out otherwise.
            return


def _address(scope: Scope) -> str | None:
    """Return the client's IP address: a proxy's word for it where that is trusted (``cli/serve.py``)."""
    client = scope.get("client")
    return str(client[0])[:_LONGEST_ADDRESS] if client else None


def _refusal(path: str, error: UnpauseError) -> JSONResponse:
    message, status = error.message, status_of(error)
    if isinstance(error, Unauthenticated) and path.startswith(CODEGEN_PREFIX):
        message = _CODEGEN_UNKNOWN
    return JSONResponse(body_for(path, status, message), status, when_to_retry(error))
