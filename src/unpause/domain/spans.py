"""Where the time of a run went, made from its log."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from unpause.domain.event_payloads import read_call
from unpause.domain.events import Event, EventType


class SpanKind(StrEnum):
    """What a run spends time on: ``queued`` until a worker has begun, ``other`` between two calls."""

    QUEUED = "queued"
    MODEL = "model"
    TOOLS = "tools"
    WAITING = "waiting"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the run's time; the spans of a run follow one another without gaps."""

    kind: SpanKind
    at: datetime
    seconds: float


def spans_of(events: Iterable[Event], now: datetime) -> list[Span]:
    """Return the spans between the events; the last one of a run that goes on ends now."""
    clock = _Clock()
    for event in events:
        clock.add(event)
    return clock.spans_until(now)


class _Clock:
    """Divides the time of a run: each moment belongs to one kind."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._kind: SpanKind | None = None
        self._since: datetime | None = None
        self._asks_model = False
        self._calls: set[str] = set()

    def add(self, event: Event) -> None:
        """Close the span before the event, and open that after it."""
        match event.type:
            case EventType.RUN_STARTED | EventType.RUN_CONTINUED:
                self._enter(SpanKind.QUEUED, event.at)
            case EventType.RUN_PAUSED:
                self._enter(SpanKind.WAITING, event.at)
            case EventType.RUN_COMPLETED | EventType.RUN_FAILED | EventType.RUN_CANCELLED:
                self._enter(None, event.at)
            case EventType.MODEL_REQUEST_STARTED | EventType.MODEL_REQUEST_COMPLETED:
                self._asks_model = event.type is EventType.MODEL_REQUEST_STARTED
                self._work(event.at)
            case EventType.TOOL_CALL_STARTED:
                self._calls.add(read_call(event.payload).tool_call_id)
                self._work(event.at)
            case EventType.TOOL_CALL_COMPLETED:
                self._calls.discard(read_call(event.payload).tool_call_id)
                self._work(event.at)
            case _:
                pass

    def spans_until(self, now: datetime) -> list[Span]:
        """Return all spans; the last one of a run that goes on ends now."""
        self._close(now)
        return self._spans

    def _work(self, at: datetime) -> None:
        kind = SpanKind.MODEL if self._asks_model else SpanKind.TOOLS if self._calls else SpanKind.OTHER
        self._turn_to(kind, at)

    def _enter(self, kind: SpanKind | None, at: datetime) -> None:
        self._asks_model = False
        self._calls.clear()
        self._turn_to(kind, at)

    def _turn_to(self, kind: SpanKind | None, at: datetime) -> None:
        if kind is not self._kind:
            self._close(at)
            self._kind, self._since = kind, at

    def _close(self, at: datetime) -> None:
        if self._kind is None or self._since is None:
            return
        # Nodes whose clocks differ may have written the two events.
        seconds = max(0.0, (at - self._since).total_seconds())
        if seconds > 0:
            self._spans.append(Span(self._kind, self._since, seconds))
