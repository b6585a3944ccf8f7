"""Sweeps look often for what somebody waits for, and seldom for the rest while there is nothing to do."""

from __future__ import annotations

import asyncio

from unpause.execution.sweeper import sweeping
from unpause.tasks import Pulse

_NEVER = 3600.0


class Found:
    """Finds as many items as it was told, one sweep after the other, and then none."""

    def __init__(self, *counts: int) -> None:
        self._counts = list(counts)
        self.sweeps: asyncio.Queue[int] = asyncio.Queue()

    async def sweep(self) -> int:
        count = self._counts.pop(0) if self._counts else 0
        self.sweeps.put_nowait(count)
        return count


async def test_a_sweep_that_nobody_waits_for_rests_once_it_found_nothing() -> None:
    sweep = Found(500, 20)
    async with sweeping([sweep], 0.001, Pulse(), idle_seconds=_NEVER):
        assert [await sweep.sweeps.get() for _ in range(3)] == [500, 20, 0]
        for _ in range(10):
            await asyncio.sleep(0.001)
        assert sweep.sweeps.empty()


async def test_another_goes_on_though_it_found_nothing() -> None:
    sweep = Found()
    async with sweeping([sweep], 0.001, Pulse()):
        assert [await sweep.sweeps.get() for _ in range(3)] == [0, 0, 0]
