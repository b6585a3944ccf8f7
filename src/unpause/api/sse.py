"""Sends a run's events as server-sent events."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from sse_starlette import ServerSentEvent
from starlette.responses import Response

from unpause.api.json import LARGE
from unpause.domain.storable import is_longer
from unpause.tasks import TaskScope

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from starlette.types import Receive, Scope, Send

    from unpause.bootstrap import Application
    from unpause.domain.events import Event

# A frame's name and its data, one line of JSON; None for an event that this API does not show.
Frame = tuple[str, str] | None

# When to reconnect: long enough for the next server to start, or for a proxy to notice.
RETRY: Final = b"retry: 1000\n\n"

_KEEPALIVE: Final = b": keepalive\n\n"
_HEADERS: Final = {"Cache-Control": "no-cache", "Connection": "keep-alive", "X-Accel-Buffering": "no"}


class EventStream(Response):
    """A stream of written frames, each of which is sent at once; it ends with them, or when the client is gone.

    It has one task beside that of the request: thousands of streams may wait for an event.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        frames: AsyncGenerator[bytes],
        *,
        first: bytes = b"",
        last: bytes = b"",
        keepalive_seconds: float | None = None,
    ) -> None:
        """``first`` are frames that are there already: they are sent before any other task has its turn.

        ``last`` comes where the frames end before the client is gone. A comment is sent every ``keepalive_seconds``,
        with None never: where the frames have comments of their own.
        """
        self.status_code = 200
        self.background = None
        self.init_headers(_HEADERS)
        self._frames = frames
        self._first = first
        self._last = last
        self._keepalive_seconds = keepalive_seconds
        self._is_sending = False
        self._error: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - Starlette's own
        """Send the frames until they end or the client is gone; raise what ``send`` or the frames raise."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._frames) as frames:
            if self._first:
                await send({"type": "http.response.body", "body": self._first, "more_body": True})
            if await self._stayed(frames, receive, send):
                await send({"type": "http.response.body", "body": self._last, "more_body": False})

    async def _stayed(self, frames: AsyncGenerator[bytes], receive: Receive, send: Send) -> bool:
        """Send the frames; return whether the client was there to their end."""
        try:
            async with asyncio.timeout(None) as stay, TaskScope() as tasks:
                tasks.start(self._attend(receive, send, stay), "client of a stream")
                async for frame in frames:
                    self._is_sending = True
                    await send({"type": "http.response.body", "body": frame, "more_body": True})
                    self._is_sending = False
        except TimeoutError:
            if not stay.expired():
                raise
            if self._error is not None:
                raise self._error from None
            return False
        return True

    async def _attend(self, receive: Receive, send: Send, stay: asyncio.Timeout) -> None:
        """Send comments; end the block of ``stay`` when the client is gone or no comment can be sent."""
        try:
            while await self._is_there(receive):
                if not self._is_sending:
                    await send({"type": "http.response.body", "body": _KEEPALIVE, "more_body": True})
        except Exception as error:  # noqa: BLE001 - the boundary of a task: the stream raises it
            self._error = error
        stay.reschedule(0)

    async def _is_there(self, receive: Receive) -> bool:
        """Return False once the client is gone, and True after ``keepalive_seconds``."""
        try:
            async with asyncio.timeout(self._keepalive_seconds):
                while (await receive())["type"] != "http.disconnect":
                    pass
        except TimeoutError:
            return True
        return False


def stream_events(
    application: Application,
    events: AsyncIterator[Event],
    translate: Callable[[Event], Frame],
    first: Sequence[Event] = (),
) -> EventStream:
    """Return the stream of the events: each frame's ``id`` is the event's number.

    ``first`` are small ones that come before, and are committed.
    """

    async def frames() -> AsyncIterator[tuple[Frame, int | str | None]]:
        async for event in events:
            is_large = is_longer(event.payload, LARGE)
            yield await asyncio.to_thread(translate, event) if is_large else translate(event), event.sequence

    return stream_frames(application, frames(), [(translate(event), event.sequence) for event in first])


def stream_frames(
    application: Application,
    frames: AsyncIterator[tuple[Frame, int | str | None]],
    first: Sequence[tuple[Frame, int | str | None]] = (),
) -> EventStream:
    """Return the stream: ``data``, ``event`` and ``id`` where there are any; LF line ends, comments between.

    A stream that ends because the server stops has a ``retry`` field.
    """

    async def encoded() -> AsyncGenerator[bytes]:
        async for frame, number in frames:
            if frame is not None:
                yield _encode(frame, number)
        if application.follower.are_streams_ended:
            yield RETRY

    begin = b"".join(_encode(frame, number) for frame, number in first if frame is not None)
    return EventStream(encoded(), first=begin, keepalive_seconds=max(1, round(application.settings.keepalive_seconds)))


def _encode(frame: tuple[str, str], number: int | str | None) -> bytes:
    name, data = frame
    return ServerSentEvent(data, event=name or None, id=None if number is None else str(number), sep="\n").encode()
