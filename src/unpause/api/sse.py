"""Sends a run's events as server-sent events."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import AppStatus
from starlette.responses import Response

from unpause.api.json import LARGE
from unpause.domain.storable import is_longer
from unpause.tasks import TaskScope

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from starlette.types import Message, Receive, Scope, Send

    from unpause.bootstrap import Application
    from unpause.domain.events import Event

# A frame's name and its data, one line of JSON; None for an event that this API does not show.
Frame = tuple[str, str] | None

# Long enough for the next server to start, or for a proxy to notice.
_RETRY_MILLISECONDS = 1000

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def outlast_signals() -> None:
    """Have streams of this process go on for the grace period after a signal, until ``Application.drain`` ends them.

    By default sse-starlette cuts all streams of a process at once, also those of a host application.
    """
    AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]  # it has no annotations


def _keepalive() -> ServerSentEvent:
    return ServerSentEvent(comment="keepalive", sep="\n")


class EventStream(EventSourceResponse):
    """A stream that begins with frames which are there already: they are sent before any other task has its turn.

    The library's own tasks come after those that wait for their turn, among them the segment that the request began.
    """

    def __init__(self, first: bytes, content: AsyncIterator[ServerSentEvent], **options: Any) -> None:  # noqa: ANN401 - the library's
        super().__init__(content, **options)
        self._first = first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the first frames, then those of the iterator until it ends or the client is gone."""
        if not self._first:
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self._first, "more_body": True})

        async def send_rest(message: Message) -> None:
            if message["type"] != "http.response.start":
                await send(message)

        await super().__call__(scope, receive, send_rest)


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

    A stream that ends because the server stops has a ``retry`` field: when to reconnect.
    """

    async def encoded() -> AsyncIterator[ServerSentEvent]:
        async for frame, number in frames:
            if frame is not None:
                yield _event_of(frame, number)
        if application.follower.are_streams_ended:
            yield ServerSentEvent(retry=_RETRY_MILLISECONDS, sep="\n")

    return EventStream(
        b"".join(_event_of(frame, number).encode() for frame, number in first if frame is not None),
        encoded(),
        headers=_HEADERS,
        ping=max(1, round(application.settings.keepalive_seconds)),
        ping_message_factory=_keepalive,
        sep="\n",
    )


def _event_of(frame: tuple[str, str], number: int | str | None) -> ServerSentEvent:
    name, data = frame
    return ServerSentEvent(data=data, event=name or None, id=None if number is None else str(number), sep="\n")


class FrameStream(Response):
    """A stream of frames that are written already, for many that rarely get one: it costs little memory.

    ``end`` is called when the client is gone, and has the frames end.
    """

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncGenerator[bytes], end: Callable[[], None] | None = None) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers(_HEADERS)
        self._frames = frames
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - Starlette's own
        """Send the frames until they end or the client is gone."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with TaskScope() as tasks:
            if self._end is not None:
                tasks.start(_call_when_gone(receive, self._end), "wait for a disconnect")
            async with aclosing(self._frames) as frames:
                async for frame in frames:
                    await send({"type": "http.response.body", "body": frame, "more_body": True})
            last = b"" if self._end is None else f"retry: {_RETRY_MILLISECONDS}\n\n".encode()
            await send({"type": "http.response.body", "body": last, "more_body": False})


async def _call_when_gone(receive: Receive, end: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    end()
