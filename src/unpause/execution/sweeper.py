"""Does every few seconds what has become due."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import structlog

from unpause.errors import DatabaseBusy, DatabaseUnavailable
from unpause.tasks import VitalTask, background_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from unpause.tasks import Pulse

_log = structlog.get_logger(__name__)


class Sweep(Protocol):
    """Does what is due of one kind; several processes may do so at the same time."""

    async def sweep(self) -> int:
        """Do it, and return the number of items."""
        ...


@asynccontextmanager
async def sweeping(sweeps: Sequence[Sweep], every_seconds: float, pulse: Pulse) -> AsyncIterator[None]:
    """Run all sweeps in the background during the block, each in its own task: a long one delays no other."""
    async with background_tasks() as tasks:
        sweepers = [
            VitalTask(tasks, _sweep(sweep, every_seconds, pulse), f"sweeper {type(sweep).__name__}") for sweep in sweeps
        ]
        try:
            yield
        finally:
            for sweeper in sweepers:
                sweeper.stop()


async def _sweep(sweep: Sweep, every_seconds: float, pulse: Pulse) -> None:
    while True:
        pulse.beat(f"sweeper {type(sweep).__name__}", every_seconds)
        try:
            await sweep.sweep()
        except DatabaseUnavailable:
            _log.debug("sweep skipped: database unavailable", sweep=type(sweep).__name__)
        except DatabaseBusy:
            _log.warning("sweep incomplete: row locked", sweep=type(sweep).__name__)
        except Exception:  # noqa: BLE001 - the boundary around a sweep: the next one tries again
            _log.exception("sweep failed", sweep=type(sweep).__name__)
        await asyncio.sleep(every_seconds)
