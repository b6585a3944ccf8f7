"""Middleware that limits bodies, heads and URLs, and keeps foreign web pages from an open server."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from unpause.api.errors import body_for

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from unpause.api.own_hosts import OwnHosts

_TOO_LARGE = 413
_TOO_SLOW = 408
# Requests that may bring pictures or files.
_WITH_MEDIA = re.compile(r"POST (?:/agents/[^/]+/(?:runs|ag-ui)|/v1/organizations/[^/]+/agent/run(?:/resume)?)")
_ADDRESS_TOO_LONG = 414
_FIELDS_TOO_LARGE = 431
_LONGEST_ADDRESS = 16 * 1024
_LARGEST_FIELDS = 64 * 1024
_MAX_FIELDS = 256
# Of several of one of these, one would count.
_ONCE = frozenset({b"authorization", b"content-type", b"idempotency-key", b"last-event-id"})
_BAD_REQUEST = 400
_ENCODINGS = frozenset({b"", b"identity"})
_UNSUPPORTED = 415


class _BodyRefused(Exception):
    """Stops reading a body that is too large or too slow."""


class BodyLimit:
    """Answers 413 to a body that is too large, announced or not, and 408 to one that takes too long.

    ``limit`` is for requests that may bring pictures or files, ``plain_limit`` for the others.
    """

    def __init__(self, app: ASGIApp, limit: int, plain_limit: int, seconds: float) -> None:
        self._app = app
        self._limit = limit
        self._plain_limit = min(plain_limit, limit)
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on while its body stays within the limit."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit if _WITH_MEDIA.fullmatch(f"{scope['method']} {scope['path']}") else self._plain_limit
        announced = Headers(scope=scope).get("content-length", "0").lstrip("0")
        # A number with more digits than the limit is larger, and may have too many for int().
        if announced.isdecimal() and (len(announced) > len(str(limit)) or int(announced) > limit):
            await self._refuse(_TOO_LARGE, limit, scope, receive, send)
            return
        reader = _BodyReader(receive, limit, self._seconds)
        is_started = False

        async def unless_refused(message: Message) -> None:
            nonlocal is_started
            # The application's response to a truncated body is not for the client.
            if reader.refused is None:
                is_started = True
                await send(message)

        with suppress(_BodyRefused):
            await self._app(scope, reader.receive, unless_refused)
        if reader.refused is None:
            return
        if is_started:
            # A stream that began before the body was read, which nobody asked for: it ends.
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        else:
            await self._refuse(reader.refused, limit, scope, receive, send)

    async def _refuse(self, status: int, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"Request body is larger than {limit} bytes"
        if status == _TOO_SLOW:
            message = f"The request took longer than {self._seconds:g} seconds to arrive"
        body = body_for(scope["path"], status, message)
        await JSONResponse(body, status, {"Connection": "close"})(scope, receive, send)


class _BodyReader:
    """Reads one request's body; ``refused`` is the status of the refusal, if any."""

    def __init__(self, receive: Receive, limit: int, seconds: float) -> None:
        self._receive = receive
        self._left = limit
        self._until = asyncio.get_running_loop().time() + seconds
        self._is_read = False
        self.refused: int | None = None

    async def receive(self) -> Message:
        """Return the next message; raise _BodyRefused for a body that is too large or too slow."""
        if self._is_read:
            # Only the client's disconnect is still to come, at any time.
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            self.refused = _TOO_SLOW
            raise _BodyRefused from None
        self._left -= len(message.get("body", b""))
        self._is_read = not message.get("more_body", False)
        if self._left < 0:
            self.refused = _TOO_LARGE
            raise _BodyRefused
        return message


class LoopbackOnly:
    """Keeps web pages away from a server without authentication.

    Any page can make a browser on this machine send a form to 127.0.0.1, or let its own name resolve to it. So the
    Host must be a name of this machine, and so must an Origin, if the browser sends one. Under another application the
    port may be open to other machines: a client with an address of one is refused, too.
    """

    def __init__(self, app: ASGIApp, own: OwnHosts, origins: frozenset[str]) -> None:
        self._app = app
        self._own = own
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on unless a foreign page sent it."""
        if scope["type"] == "http" and not (_is_here(scope) and self._is_local(Headers(scope=scope))):
            message = "This server has no authentication and answers only requests made to and from this machine"
            await JSONResponse(body_for(scope["path"], 403, message), 403)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_local(self, headers: Headers) -> bool:
        if not self._own.has_host(headers.get("host", "")):
            return False
        origin = headers.get("origin")
        return origin is None or origin in self._origins or self._own.has_origin(origin)


def _is_here(scope: Scope) -> bool:
    """Whether the client has an address of this machine, or none, as over a socket's file."""
    client = scope.get("client")
    return client is None or _is_loopback(client[0])


@lru_cache(maxsize=1024)
def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return True


class HeaderLimit:
    """Answers 414 to a URL of more than 16 KiB, and 431 to more than 256 header fields or 64 KiB of them.

    Each parameter and each field costs time, some of it at every lookup. Two tokens, two keys of a request or two types
    of a body are answered with 400, and so are two lengths of it; a compressed body with 415.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on unless something is wrong with its head."""
        refused = _head_refused(scope) if scope["type"] == "http" else None
        if refused is None:
            await self._app(scope, receive, send)
            return
        status, message = refused
        await JSONResponse(body_for(scope["path"], status, message), status, {"Connection": "close"})(
            scope, receive, send
        )


def _head_refused(scope: Scope) -> tuple[int, str] | None:
    if len(scope["query_string"]) + len(scope["path"]) > _LONGEST_ADDRESS:
        return _ADDRESS_TOO_LONG, f"The URL is longer than {_LONGEST_ADDRESS} bytes"
    fields = scope["headers"]
    if len(fields) > _MAX_FIELDS or sum(len(name) + len(value) for name, value in fields) > _LARGEST_FIELDS:
        return (
            _FIELDS_TOO_LARGE,
            f"The request has more than {_MAX_FIELDS} header fields or {_LARGEST_FIELDS} bytes of them",
        )
    encodings = {value.strip().lower() for name, value in fields if name == b"content-encoding"}
    if not encodings <= _ENCODINGS and scope["method"] not in {"GET", "HEAD"}:
        return _UNSUPPORTED, "The body must not be compressed: Content-Encoding is not read"
    names = [name for name, _ in fields]
    # A proxy that goes by the other one would see the next request begin elsewhere.
    if b"transfer-encoding" in names and b"content-length" in names:
        return _BAD_REQUEST, "The request has both Content-Length and Transfer-Encoding"
    found = [name for name in names if name in _ONCE]
    repeated = next((name for number, name in enumerate(found) if name in found[:number]), None)
    if repeated is not None:
        return _BAD_REQUEST, f"The request has the header field {repeated.decode()} more than once"
    return None


class UrlCheck:
    """Answers 400 to a URL that does not stand for a text: it is not UTF-8, and would be read as another one.

    Nor may it have U+0000: no name has it, and PostgreSQL refuses it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on unless something is wrong with its URL."""
        message = _url_refused(scope) if scope["type"] == "http" else None
        if message is None:
            await self._app(scope, receive, send)
            return
        await JSONResponse(body_for(scope["path"], _BAD_REQUEST, message), _BAD_REQUEST)(scope, receive, send)


def _url_refused(scope: Scope) -> str | None:
    path, query = scope["path"], scope["query_string"]
    if "\0" in path or b"%00" in query:
        return "The URL must not contain the character U+0000"
    # Servers have put U+FFFD in place of what is not UTF-8; a client may have sent it itself.
    if ("\ufffd" in path and not _is_utf8(scope.get("raw_path") or b"")) or (b"%" in query and not _is_utf8(query)):
        return "The URL is not UTF-8"
    return None


def _is_utf8(quoted: bytes) -> bool:
    try:
        unquote_to_bytes(quoted).decode()
    except UnicodeDecodeError:
        return False
    return True
