"""Gives each request its id, a line of the access log, and its place in the metrics."""

from __future__ import annotations

import re
from time import perf_counter
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import structlog
from starlette.datastructures import Headers

from unpause.telemetry import tracing
from unpause.telemetry.metrics import HTTP, HTTP_OPEN

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = structlog.get_logger(__name__)

_HEADER: Final = b"x-request-id"
# As proxies make them: UUIDs, hexadecimal digits, base64. Anything else could be made to look like something else.
_VALID_ID: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:/+=@-]{0,127}")
_OTHER: Final = "other"
_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_LONGEST_PATH: Final = 200


class Observation:
    """Binds the id to all that is logged for the request, and returns it with the response.

    A client's or proxy's own ``X-Request-ID`` is kept where it is a plain word. ``access_log`` writes a line for each
    request: without its query, which may hold a ticket, and without headers or bodies.
    """

    def __init__(self, app: ASGIApp, *, access_log: bool) -> None:
        self._app = app
        self._access_log = access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and observe its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        response = _Response(send, request_id)
        # Middlewares further in may replace the scope, but not the state in it.
        scope.setdefault("state", {})
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            if tracing.is_tracing():
                await self._trace(scope, receive, response)
            else:
                await self._respond(scope, receive, response)

    async def _trace(self, scope: Scope, receive: Receive, response: _Response) -> None:
        """Pass the request on within its span."""
        sent = Headers(scope=scope)
        with tracing.request_span(sent.get("traceparent"), sent.get("tracestate"), scope["method"]) as opened:
            try:
                await self._respond(scope, receive, response)
            finally:
                if opened is not None:
                    tracing.end_request_span(opened, scope["method"], _route_of(scope), response.status)

    async def _respond(self, scope: Scope, receive: Receive, response: _Response) -> None:
        began = perf_counter()
        HTTP_OPEN.inc()
        try:
            await self._app(scope, receive, response.send)
        finally:
            # Within the span, which the line of the log names.
            self._observe(scope, response.status, perf_counter() - began)

    def _observe(self, scope: Scope, status: int, seconds: float) -> None:
        HTTP_OPEN.dec()
        method = scope["method"] if scope["method"] in _METHODS else _OTHER
        HTTP.labels(method, _route_of(scope), str(status)).observe(seconds)
        if self._access_log:
            principal, client = scope["state"].get("principal"), scope.get("client")
            _log.info(
                "request",
                method=scope["method"],
                path=scope["path"][:_LONGEST_PATH],
                route=_route_of(scope),
                status=status,
                seconds=round(seconds, 4),
                client=client[0] if client else None,
                user=principal.name if principal is not None else None,
            )


class _Response:
    """A response that carries the request's id; its status is 499 until it has begun, as where a client is gone."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._field = (_HEADER, request_id.encode())
        self.status = 499

    async def send(self, message: Message) -> None:
        """Send the message."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), self._field]
        await self._send(message)


def _request_id(scope: Scope) -> str:
    """Return the id that came with the request, or a new one."""
    for name, value in scope["headers"]:
        if name == _HEADER:
            if _VALID_ID.fullmatch(value):
                return str(value, "ascii")
            break
    return uuid4().hex


def _route_of(scope: Scope) -> str:
    """Return the route's path with its parameters' names: there are as many as routes, whatever clients send."""
    route = scope.get("route")
    return getattr(route, "path", None) or _OTHER
