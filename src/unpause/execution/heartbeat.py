"""Renews the leases of the runs that are executed here, from a thread of its own.

A model that does not answer or a tool that blocks the event loop must not look like a worker that died: so neither the
loop nor its connections are needed here.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from unpause.errors import DatabaseBusy, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import timedelta

    from unpause.clock import Clock
    from unpause.execution.executor import Executor
    from unpause.store.leases import LeaseKeeper

_log = structlog.get_logger(__name__)

# How many renewals fit into a lease: two may fail.
_RENEWALS = 3
# After one that failed the next comes sooner: once the database is back, the others do not wait for long.
_RETRY_SECONDS = 1.0


class Heartbeat:
    """Renews what the executor holds, and says of which runs it learned that somebody else has them."""

    def __init__(self, keeper: LeaseKeeper, executor: Executor, lease: timedelta, clock: Clock) -> None:
        self._keeper = keeper
        self._executor = executor
        self._lease = lease
        self._clock = clock
        self._is_over = threading.Event()

    @asynccontextmanager
    async def beating(self, abandon: Callable[[int], None]) -> AsyncIterator[None]:
        """Renew during the block; ``abandon`` is called in the loop with each run that is held no more."""
        loop = asyncio.get_running_loop()

        def lost(run_key: int) -> None:
            loop.call_soon_threadsafe(abandon, run_key)

        thread = threading.Thread(target=self._beat, args=(lost,), name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            await asyncio.to_thread(thread.join)
            self._keeper.close()

    def _beat(self, lost: Callable[[int], None]) -> None:
        usual = self._lease.total_seconds() / _RENEWALS
        wait = usual
        while not self._is_over.wait(wait):
            held = self._executor.list_held()
            wait = usual if self._renew(held, lost) else min(usual, _RETRY_SECONDS)

    def _renew(self, held: list[tuple[int, int]], lost: Callable[[int], None]) -> bool:
        """Renew, and tell of the runs that are held no more; return whether the database took it."""
        if not held:
            return True
        try:
            kept = self._keeper.renew(held, self._clock.now() + self._lease)
        except (DatabaseUnavailable, DatabaseBusy) as error:
            _log.warning("leases could not be renewed", held=len(held), reason=error.message)
            return False
        except Exception:  # noqa: BLE001 - the boundary around a beat: the next one has to come, whatever it was
            _log.exception("leases could not be renewed", held=len(held))
            return False
        for run_key, fence in held:
            # Not where it ended meanwhile, or is here again already under another fence.
            if run_key not in kept and (run_key, fence) in self._executor.list_held():
                _log.warning("lease lost", run_key=run_key, fence=fence)
                lost(run_key)
        return True
