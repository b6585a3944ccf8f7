"""The threads that synchronous tools run in: which segment each works for is known, also once nobody waits for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from unpause.agents.process.forks import ending_forks

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

# As many as asyncio's helpers have it by default.
_THREADS: Final = 40

current_segment: ContextVar[int | None] = ContextVar("current_segment", default=None)


class SegmentThreads(ThreadPoolExecutor):
    """An executor that counts, by segment, the threads that work."""

    def __init__(self) -> None:
        super().__init__(_THREADS, thread_name_prefix="tool")
        self._working: Counter[int] = Counter()
        self._idle: dict[int, asyncio.Event] = {}

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run it in a thread; to be called on the event loop."""
        done = super().submit(partial(_raising_what_passes, fn, *args, **kwargs))
        segment_id = current_segment.get()
        if segment_id is not None:
            loop = asyncio.get_running_loop()
            self._working[segment_id] += 1
            done.add_done_callback(lambda _: _call_soon(loop, self._finished, segment_id))
        return done

    async def wait_for(self, segment_id: int) -> None:
        """Return once no thread works for the segment any more."""
        if segment_id in self._working:
            await self._idle.setdefault(segment_id, asyncio.Event()).wait()

    def _finished(self, segment_id: int) -> None:
        self._working[segment_id] -= 1
        if self._working[segment_id] == 0:
            del self._working[segment_id]
            if segment_id in self._idle:
                self._idle.pop(segment_id).set()


def _raising_what_passes(fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call it; two exceptions that no future can hand on become others.

    asyncio refuses StopIteration, for which the caller would wait forever, and GeneratorExit closes the coroutine.
    """
    try:
        return ending_forks(partial(fn, *args, **kwargs))
    except StopIteration as error:
        # The words of Python for the same in a coroutine.
        raise RuntimeError("coroutine raised StopIteration") from error
    except GeneratorExit as error:
        raise RuntimeError("GeneratorExit") from error


def _call_soon(loop: asyncio.AbstractEventLoop, function: Callable[[int], Any], segment_id: int) -> None:
    try:
        loop.call_soon_threadsafe(function, segment_id)
    except RuntimeError:
        # The loop is closed: the process ends.
        return
