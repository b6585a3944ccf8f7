"""The events of a run's log; each API translates them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from unpause.domain.paging import Page


class EventType(StrEnum):
    """What happened."""

    RUN_STARTED = "run_started"
    RUN_CONTINUED = "run_continued"
    MODEL_REQUEST_STARTED = "model_request_started"
    MODEL_REQUEST_COMPLETED = "model_request_completed"
    CONTENT_DELTA = "content_delta"
    CONTENT_COMPLETED = "content_completed"
    TOOL_CALL_STARTED = "tool_call_started"
    TOOL_CALL_COMPLETED = "tool_call_completed"
    TOOL_CALL_FAILED = "tool_call_failed"
    RUN_PAUSED = "run_paused"
    RUN_COMPLETED = "run_completed"
    RUN_FAILED = "run_failed"
    RUN_CANCELLED = "run_cancelled"
    PAUSE_REMINDER = "pause_reminder"

    @property
    def ends_segment(self) -> bool:
        """Whether it is the last event of a segment."""
        return self in _ENDS


_ENDS = frozenset({EventType.RUN_PAUSED, EventType.RUN_COMPLETED, EventType.RUN_FAILED, EventType.RUN_CANCELLED})


@dataclass(frozen=True, slots=True)
class Event:
    """One fact. ``sequence`` is gapless within a run and counts from 1; 0 means not yet in the log."""

    type: EventType
    at: datetime
    payload: dict[str, Any] = field(default_factory=dict)
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class EventSelection:
    """Which events of a run a list shows.

    ``types`` maps each type to the key that its payload must have; None shows every event of the type.
    """

    types: Mapping[EventType, str | None]
    page: Page = field(default_factory=Page)
    newest_first: bool = False
