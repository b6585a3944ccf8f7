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
async def sweeping(
    sweeps: Sequence[Sweep], every_seconds: float, pulse: Pulse, idle_seconds: float | None = None
) -> AsyncIterator[None]:
    """Run all sweeps in the background during the block, each in its own task: a long one delays no other.

    After one that found nothing to do the next comes in ``idle_seconds``.
    """
    rests = every_seconds, every_seconds if idle_seconds is None else idle_seconds
    async with background_tasks() as tasks:
        sweepers = [
            VitalTask(tasks, _sweep(sweep, rests, pulse), f"sweeper {type(sweep).__name__}") for sweep in sweeps
        ]
        try:
            yield
        finally:
            for sweeper in sweepers:
                sweeper.stop()


async def _sweep(sweep: Sweep, rests: tuple[float, float], pulse: Pulse) -> None:
    usual, idle = rests
    while True:
        pulse.beat(f"sweeper {type(sweep).__name__}", idle)
        rest = usual
        try:
            rest = usual if await sweep.sweep() else idle
        except DatabaseUnavailable:
            _log.debug("sweep skipped: database unavailable", sweep=type(sweep).__name__)
        except DatabaseBusy:
            _log.warning("sweep incomplete: row locked", sweep=type(sweep).__name__)
        except Exception:  # noqa: BLE001 - the boundary around a sweep: the next one tries again
            _log.exception("sweep failed", sweep=type(sweep).__name__)
        await asyncio.sleep(rest)
