"""Sends a run's events as server-sent events."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import AppStatus

from unpause.api.json import LARGE
from unpause.domain.storable import is_longer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from unpause.bootstrap import Application
    from unpause.domain.events import Event

# A frame's name and its data, one line of JSON; None for an event that this API does not show.
Frame = tuple[str, str] | None

# Long enough for the next server to start, or for a proxy to notice.
_RETRY_MILLISECONDS = 1000

# sse-starlette cuts all streams as soon as the process gets a signal to stop. Here they go on for the grace period,
# until `Follower.end_streams` ends them.
AppStatus.disable_automatic_graceful_drain()  # type: ignore[no-untyped-call]  # it has no annotations

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def _keepalive() -> ServerSentEvent:
    return ServerSentEvent(comment="keepalive", sep="\n")


def stream_events(
    application: Application, events: AsyncIterator[Event], translate: Callable[[Event], Frame]
) -> EventSourceResponse:
    """Return the stream of the events: each frame's ``id`` is the event's number."""

    async def frames() -> AsyncIterator[tuple[Frame, int | None]]:
        async for event in events:
            is_large = is_longer(event.payload, LARGE)
            yield await asyncio.to_thread(translate, event) if is_large else translate(event), event.sequence

    return stream_frames(application, frames())


def stream_frames(
    application: Application, frames: AsyncIterator[tuple[Frame, int | str | None]]
) -> EventSourceResponse:
    """Return the stream: ``event``, ``data`` and ``id`` where there is one; LF line ends, comments between.

    A stream that ends because the server stops has a ``retry`` field: when to reconnect.
    """

    async def encoded() -> AsyncIterator[ServerSentEvent]:
        async for frame, number in frames:
            if frame is not None:
                name, data = frame
                yield ServerSentEvent(data=data, event=name, id=None if number is None else str(number), sep="\n")
        if application.follower.are_streams_ended:
            yield ServerSentEvent(retry=_RETRY_MILLISECONDS, sep="\n")

    return EventSourceResponse(
        encoded(),
        headers=_HEADERS,
        ping=max(1, round(application.settings.keepalive_seconds)),
        ping_message_factory=_keepalive,
        sep="\n",
    )
