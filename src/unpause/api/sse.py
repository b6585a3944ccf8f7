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
    """Return the stream: ``event``, ``data`` and as ``id`` the event's number; LF line ends, comments in silence."""

    async def frames() -> AsyncIterator[ServerSentEvent]:
        async for event in events:
            frame = translate(event)
            if frame is not None:
                name, data = frame
                yield ServerSentEvent(data=data, event=name, id=str(event.sequence), sep="\n")

    return EventSourceResponse(
        frames(),
        headers=_HEADERS,
        ping=max(1, round(keepalive_seconds)),
        ping_message_factory=_keepalive,
        sep="\n",
    )
