"""Sends a run's events as server-sent events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sse_starlette import EventSourceResponse, ServerSentEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from unpause.domain.events import Event

# A frame's name and its data, one line of JSON; None for an event this API does not show.
Frame = tuple[str, str] | None

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


def _keepalive() -> ServerSentEvent:
    return ServerSentEvent(comment="keepalive", sep="\n")


def stream_events(
    events: AsyncIterator[Event], translate: Callable[[Event], Frame], keepalive_seconds: float
) -> EventSourceResponse:
    """Return the stream of the events: each frame's ``id`` is the event's number."""

    async def frames() -> AsyncIterator[tuple[Frame, int | None]]:
        async for event in events:
            yield translate(event), event.sequence

    return stream_frames(frames(), keepalive_seconds)


def stream_frames(frames: AsyncIterator[tuple[Frame, int | None]], keepalive_seconds: float) -> EventSourceResponse:
    """Return the stream: ``event``, ``data`` and ``id`` where there is a number; LF line ends, comments in silence."""

    async def encoded() -> AsyncIterator[ServerSentEvent]:
        async for frame, number in frames:
            if frame is not None:
                name, data = frame
                yield ServerSentEvent(data=data, event=name, id=None if number is None else str(number), sep="\n")

    return EventSourceResponse(
        encoded(),
        headers=_HEADERS,
        ping=max(1, round(keepalive_seconds)),
        ping_message_factory=_keepalive,
        sep="\n",
    )
