"""Closes connections of clients that do not finish a request, or do not read their answer.

uvicorn itself only closes connections that are idle between two requests, and the application only limits how long a
body may take (``api.middleware.requests``). The rest is here, around uvicorn's protocol: how long the head of a request
may take, how long whatever follows an answer, and how long a client may leave an answer unread.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from uvicorn import Config

    Message: TypeAlias = MutableMapping[str, Any]
    Receive: TypeAlias = Callable[[], Awaitable[Message]]
    Send: TypeAlias = Callable[[Message], Awaitable[None]]
    App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

# How a request finds its connection: in the state that the ASGI scope carries.
_KEY = "unpause.connection"


class _Http(H11Protocol):
    """uvicorn's protocol; ignores an offer to upgrade, which some clients make with each request."""

    def _unsupported_upgrade_warning(self) -> None:
        """Log nothing: uvicorn would advise to install libraries for WebSockets, which no route uses."""


class TimedConnection(asyncio.Protocol):
    """One connection: passes everything on to uvicorn's protocol, and closes it when the client takes too long.

    h11 is the parser because it limits the size of a head, a chunk's header and trailers, and never mixes trailers into
    the header fields of a request that has been checked already.
    """

    def __init__(self, config: Config, app_state: dict[str, Any], **options: Any) -> None:  # noqa: ANN401 - uvicorn's
        self._seconds = cast("TimedApp", config.app).seconds
        self._protocol = _Http(config, app_state={**app_state, _KEY: self}, **options)
        self._loop = asyncio.get_running_loop()
        self._requests = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP has both ways
        """Expect the first request."""
        self._transport = transport
        self._protocol.connection_made(transport)
        self._start_deadline()

    def data_received(self, data: bytes) -> None:
        """Expect the end of whatever begins between two requests: a head, or what is left of a refused body."""
        if self._requests == 0 and self._deadline is None:
            self._start_deadline()
        self._protocol.data_received(data)

    def eof_received(self) -> None:
        """Pass it on."""
        self._protocol.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        self._stop_deadline()
        if self._unread is not None:
            self._unread.cancel()
        self._protocol.connection_lost(exc)

    def begin_request(self) -> None:
        """Note that a head has arrived."""
        self._requests += 1
        self._stop_deadline()

    def end_request(self) -> None:
        """Note that an answer is complete; the client has to read it."""
        self._requests -= 1
        self._expect_reading()

    def give_up(self) -> None:
        """Close the connection within an answer."""
        # uvicorn would miss the rest of it.
        self._protocol.cycle.disconnected = True
        self._transport.abort()

    def _start_deadline(self) -> None:
        self._deadline = self._loop.call_later(self._seconds, self._close)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self) -> None:
        self._transport.close()
        self._expect_reading()

    def _expect_reading(self) -> None:
        unread_bytes = self._transport.get_write_buffer_size()
        if self._unread is None and unread_bytes > 0:
            self._unread = self._loop.call_later(self._seconds, self._check_reading, unread_bytes)

    def _check_reading(self, unread_bytes: int) -> None:
        self._unread = None
        if self._requests == 0 and self._transport.get_write_buffer_size() >= unread_bytes:
            self._transport.abort()
        else:
            self._expect_reading()


class TimedApp:
    """The application for a server with timed connections: notifies them when a request begins and its answer ends.

    ``seconds`` is how long a client may take for a head, and how long it may read nothing of an answer.
    """

    def __init__(self, app: App, seconds: float) -> None:
        self._app = app
        self.seconds = seconds

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer the request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection: TimedConnection = scope["state"].pop(_KEY)
        is_complete = False

        async def send_on(message: Message) -> None:
            nonlocal is_complete
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False) and not is_complete:
                is_complete = True
                connection.end_request()

        connection.begin_request()
        try:
            await self._app(scope, receive, send_on)
        except asyncio.CancelledError:
            # A server that ends with requests open: uvicorn would log each as a failure of the application.
            connection.give_up()
        finally:
            if not is_complete:
                connection.end_request()
