"""Starts and stops the background parts of a process in the right order."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from unpause.execution.sweeper import sweeping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager

    from unpause.execution.heartbeat import Heartbeat
    from unpause.execution.recovery import Recovery
    from unpause.execution.sweeper import Sweep
    from unpause.execution.workers import Workers
    from unpause.streaming.bus import Bus
    from unpause.tasks import Pulse

_CALM: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The background parts of a process.

    ``workers`` None leaves the runs to other processes. ``heartbeat`` None means that no other process shares the
    database: then every run that is RUNNING at the start was left by the process before. ``lifespans`` holds open what
    the agents of this process need while it executes runs. ``calm_sweeps`` are those that nobody waits for: as long as
    they find nothing to do, they look seldom.
    """

    bus: Bus
    workers: Workers | None
    recovery: Recovery
    heartbeat: Heartbeat | None
    lifespans: Callable[[], AbstractAsyncContextManager[None]]
    sweeps: tuple[Sweep, ...]
    calm_sweeps: tuple[Sweep, ...]
    sweep_seconds: float
    pulse: Pulse

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Work during the block; at its end running segments get their grace period and are released."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.bus.running())
            if self.heartbeat is None:
                await self.recovery.take_back_all()
            elif self.workers is not None:
                await stack.enter_async_context(self.heartbeat.beating(self.workers.abandon))
            await stack.enter_async_context(self.lifespans())
            if self.workers is not None:
                await stack.enter_async_context(self.workers.working())
            seconds = self.sweep_seconds
            await stack.enter_async_context(sweeping(self.sweeps, seconds, self.pulse))
            await stack.enter_async_context(sweeping(self.calm_sweeps, seconds, self.pulse, _CALM * seconds))
            yield
