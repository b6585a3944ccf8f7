"""Renews the leases of the runs that are executed here, from a thread of its own.

A tool that blocks the event loop must not look like a dead worker, so this needs neither the loop nor its connections.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, closing, suppress
from typing import TYPE_CHECKING, TypeVar

import structlog

from unpause.errors import DatabaseBusy, DatabaseUnavailable
from unpause.tasks import Pulse, VitalTask, background_tasks
from unpause.telemetry.metrics import LEASE_RENEWALS, LEASES_LOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import timedelta

    from unpause.domain.nodes import Node
    from unpause.execution.executor import Executor
    from unpause.store.leases import LeaseKeeper

_log = structlog.get_logger(__name__)

T = TypeVar("T")

# How many renewals fit into a lease: two may fail.
_RENEWALS = 3
# After one that failed the next comes sooner: once the database is back, the others do not wait for long.
_RETRY_SECONDS = 1.0


class Heartbeat:
    """Renews the leases of the executor's runs, and reports those that were lost.

    Each beat also records that the ``node``, this process, is alive, and the agents that it serves then.
    """

    def __init__(
        self,
        keeper: LeaseKeeper,
        executor: Executor,
        lease: timedelta,
        node: Callable[[], Node] | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        self._keeper = keeper
        self._executor = executor
        self._lease = lease
        self._node = node
        self._pulse = pulse or Pulse()
        self._is_over = False
        # What failed the last time that it was tried.
        self._failing: set[str] = set()
        self._wakeup = threading.Event()

    def beat_soon(self) -> None:
        """Record at once what the node serves now."""
        self._wakeup.set()

    @asynccontextmanager
    async def beating(self, abandon: Callable[[int], None]) -> AsyncIterator[None]:
        """Renew during the block; ``abandon`` is called in the loop with each run whose lease was lost."""
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def abandon_if_held(held: tuple[int, int]) -> None:
            # The run may have been claimed here again since.
            if held in self._executor.list_held():
                abandon(held[0])

        def lost(held: tuple[int, int]) -> None:
            loop.call_soon_threadsafe(abandon_if_held, held)

        def beat() -> None:
            try:
                self._beat(lost)
            finally:
                with suppress(RuntimeError):
                    # The loop may be closed already.
                    loop.call_soon_threadsafe(ended.set)

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        with closing(self._keeper):
            # Before the first claim: other nodes have to know that these agents are served.
            await asyncio.to_thread(self._keep_node)
            async with background_tasks() as tasks:
                watching = VitalTask(tasks, ended.wait(), "heartbeat")
                thread.start()
                try:
                    yield
                finally:
                    watching.stop()
                    self._is_over = True
                    self._wakeup.set()
                    await asyncio.to_thread(thread.join)
                    await asyncio.to_thread(self._leave)

    def _beat(self, lost: Callable[[tuple[int, int]], None]) -> None:
        usual = self._lease.total_seconds() / _RENEWALS
        wait = usual
        while True:
            self._wakeup.wait(wait)
            self._wakeup.clear()
            if self._is_over:
                return
            self._pulse.beat("heartbeat", wait)
            held = self._executor.list_held()
            # Leases first: a late renewal loses the run.
            is_well = self._renew(held, lost) and self._keep_node()
            wait = usual if is_well else min(usual, _RETRY_SECONDS)

    def _keep_node(self) -> bool:
        """Record that this node is alive; return whether the database took it."""
        if self._node is None:
            return True
        node = self._node()
        return self._attempt("node heartbeat failed", lambda: self._keeper.keep_node(node)) is not None

    def _leave(self) -> None:
        if self._node is not None:
            node = self._node()
            self._attempt("node removal failed", lambda: self._keeper.remove_node(node))

    def _renew(self, held: list[tuple[int, int]], lost: Callable[[tuple[int, int]], None]) -> bool:
        """Renew the leases and report those that were lost; return whether the database took it."""
        if not held:
            return True
        kept = self._attempt("lease renewal failed", lambda: self._keeper.renew(held, self._lease), held=len(held))
        LEASE_RENEWALS.labels("failed" if kept is None else "renewed").inc(len(held))
        if kept is None:
            return False
        for run_key, fence in held:
            # Not a run that ended meanwhile, or that was claimed here again under another fence.
            if run_key not in kept[0] and (run_key, fence) in self._executor.list_held():
                LEASES_LOST.inc()
                _log.warning("lease lost", run_key=run_key, fence=fence)
                lost((run_key, fence))
        return True

    def _attempt(self, event: str, work: Callable[[], T], **details: object) -> tuple[T] | None:
        """Return the result of a write in a tuple; None for one that failed, which is logged."""
        try:
            result = work()
        except (DatabaseUnavailable, DatabaseBusy) as error:
            # Once for an outage: the beats go on every second.
            log = _log.debug if event in self._failing else _log.warning
            self._failing.add(event)
            log(event, reason=error.message, **details)
        except Exception:  # noqa: BLE001 - the boundary around a beat: the next beat tries again
            _log.exception(event, **details)
        else:
            self._failing.discard(event)
            return (result,)
        return None
