"""A driver whose segments stand still until the test lets them go, and tell who runs at the same time."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field

from tests.support.toolless import Toolless
from unpause.agents.driver import Completed, Journal, Paused, Segment, SegmentEnd
from unpause.domain.events import EventType

_DEADLINE = 60


@dataclass
class HoldingDriver(Toolless):
    """Notes each segment in ``started``, says one word, and completes once ``let_go`` was called for its run.

    One that is asked to is given back then instead.

    ``most`` is how many segments of one organization ever ran at the same time, by organization.
    """

    agent_id: str = "holding"
    agent_name: str = "holding"
    model_name: str = "holding-1"
    model_provider: str = "tests"
    started: list[int] = field(default_factory=list)
    running: Counter[int] = field(default_factory=Counter)
    most: Counter[int] = field(default_factory=Counter)
    paused: list[int] = field(default_factory=list)
    _free: set[int] = field(default_factory=set)
    _are_all_free: bool = False
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Hold the segment."""
        run, organization = segment.run.id, segment.run.organization_id
        self.running[organization] += 1
        self.most[organization] = max(self.most[organization], self.running[organization])
        try:
            await journal.emit(EventType.CONTENT_DELTA, {"content": "working"})
            async with self._changed:
                self.started.append(run)
                self._changed.notify_all()
                await self._changed.wait_for(lambda: self._are_all_free or run in self._free)
        finally:
            self.running[organization] -= 1
        return Paused(requests=()) if journal.stop_requested else Completed(segment.run.prompt)

    async def has_started(self, count: int) -> None:
        """Wait until so many segments have started, in all."""
        async with asyncio.timeout(_DEADLINE), self._changed:
            await self._changed.wait_for(lambda: len(self.started) >= count)

    async def let_go(self, *runs: int) -> None:
        """Let these runs complete, or all there are and will be."""
        async with self._changed:
            self._free.update(runs)
            self._are_all_free = self._are_all_free or not runs
            self._changed.notify_all()
