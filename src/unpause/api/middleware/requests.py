"""Refuses, before anything reads them, bodies over the limit and callers an open server must not listen to."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from unpause.api.errors import body_for

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_TOO_LARGE = 413
_TOO_SLOW = 408
# Where pictures or files may come with the body.
_PICTURES = re.compile(r"POST (?:/agents/[^/]+/runs|/v1/organizations/[^/]+/agent/run(?:/resume)?)")
_ADDRESS_TOO_LONG = 414
_FIELDS_TOO_LARGE = 431
_LONGEST_ADDRESS = 16 * 1024
_LARGEST_FIELDS = 64 * 1024
_MOST_FIELDS = 256
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class _BodyRefused(Exception):
    """Stops the reading of a body that turned out too large, or too slow."""


class BodyLimit:
    """Answers 413 to a body with too many bytes, announced or not, and 408 to one that takes too long.

    ``limit`` is for requests that may bring pictures or files, ``plain_limit`` for all others.
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
        limit = self._limit if _PICTURES.fullmatch(f"{scope['method']} {scope['path']}") else self._plain_limit
        announced = Headers(scope=scope).get("content-length", "0").lstrip("0")
        # A number of more digits than the limit is larger, and may have more than can be read.
        if announced.isdecimal() and (len(announced) > len(str(limit)) or int(announced) > limit):
            await self._refuse(_TOO_LARGE, limit, scope, receive, send)
            return
        reading = _Reading(receive, limit, self._seconds)

        async def unless_refused(message: Message) -> None:
            # What the application makes of its broken-off body is not what the client should hear.
            if reading.refused is None:
                await send(message)

        with suppress(_BodyRefused):
            await self._app(scope, reading.receive, unless_refused)
        if reading.refused is not None:
            await self._refuse(reading.refused, limit, scope, receive, send)

    async def _refuse(self, status: int, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"Request body is larger than {limit} bytes"
        if status == _TOO_SLOW:
            message = f"The request took longer than {self._seconds:g} seconds to arrive"
        body = body_for(scope["path"], status, message)
        await JSONResponse(body, status, {"Connection": "close"})(scope, receive, send)


class _Reading:
    """Reads one request's body; ``refused`` is the status of what was wrong with it."""

    def __init__(self, receive: Receive, limit: int, seconds: float) -> None:
        self._receive = receive
        self._left = limit
        self._until = asyncio.get_running_loop().time() + seconds
        self._is_read = False
        self.refused: int | None = None

    async def receive(self) -> Message:
        """Return the next message; raise where there is too much of the body, or it comes too slowly."""
        if self._is_read:
            # Only that the client went away is still to come, whenever that is.
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
    """Keeps web pages away from a server that asks nobody who they are.

    A page from anywhere can make the browser on this machine send a form to 127.0.0.1, or have its own name resolve
    to it. So the Host must be a name of this machine, and an Origin, if the browser sends one, too.
    """

    def __init__(self, app: ASGIApp, host: str, origins: frozenset[str]) -> None:
        self._app = app
        self._names = _LOOPBACK_NAMES | {host}
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on unless a foreign page is behind it."""
        if scope["type"] == "http" and not self._is_local(Headers(scope=scope)):
            message = "This server has no authentication and answers only requests made to and from this machine"
            await JSONResponse(body_for(scope["path"], 403, message), 403)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_local(self, headers: Headers) -> bool:
        if _name(f"//{headers.get('host', '')}") not in self._names:
            return False
        origin = headers.get("origin")
        return origin is None or origin in self._origins or _name(origin) in self._names


class HeadLimit:
    """Answers 414 to an address of more than 16 KiB, and 431 to header fields of more than 64 KiB or 256 of them.

    Each parameter and each field costs time, some of them wherever one is looked for.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on unless its head is too large."""
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
        return _ADDRESS_TOO_LONG, f"The address is longer than {_LONGEST_ADDRESS} bytes"
    fields = scope["headers"]
    if len(fields) > _MOST_FIELDS or sum(len(name) + len(value) for name, value in fields) > _LARGEST_FIELDS:
        return (
            _FIELDS_TOO_LARGE,
            f"There are more than {_MOST_FIELDS} header fields, or {_LARGEST_FIELDS} bytes of them",
        )
    return None


def local_origins(host: str) -> str:
    """Return a pattern of the origins that ``LoopbackOnly`` lets through as those of this machine."""
    names = (f"\\[{re.escape(name)}\\]" if ":" in name else re.escape(name) for name in {*_LOOPBACK_NAMES, host})
    return rf"https?://(?:{'|'.join(sorted(names))})(?::[0-9]{{1,5}})?"


class PlainText:
    """Answers 400 to an address with U+0000 in it: nothing is called so, and PostgreSQL takes the character nowhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on unless there is one."""
        if scope["type"] == "http" and ("\0" in scope["path"] or b"%00" in scope["query_string"]):
            body = body_for(scope["path"], 400, "The address must not contain the character U+0000")
            await JSONResponse(body, 400)(scope, receive, send)
            return
        await self._app(scope, receive, send)


class TrailingSlash:
    """Takes a trailing slash off the path: the original serves both forms, without a redirect."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on under the path without the slash."""
        if scope["type"] == "http" and len(scope["path"]) > 1 and scope["path"].endswith("/"):
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        await self._app(scope, receive, send)


def _name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
