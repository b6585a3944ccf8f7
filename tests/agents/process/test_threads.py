"""Threads of synchronous tools: what a tool raises reaches whoever waits, and a cancelled segment waits for its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from unpause.agents.process.threads import SegmentThreads, current_segment


async def call(threads: SegmentThreads, work: Callable[[], object]) -> object:
    return await asyncio.get_running_loop().run_in_executor(threads, work)


@pytest.mark.parametrize(
    ("error", "seen", "words"),
    [
        (ValueError("no"), ValueError, "no"),
        (SystemExit(2), SystemExit, "2"),
        (StopIteration(), RuntimeError, "coroutine raised StopIteration"),
        (GeneratorExit(), RuntimeError, "GeneratorExit"),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_whatever_a_tool_raises_in_its_thread_reaches_the_one_who_waits(
    error: BaseException, seen: type[BaseException], words: str
) -> None:
    def work() -> None:
        raise error

    with SegmentThreads() as threads, pytest.raises(seen, match=words):
        await call(threads, work)


async def test_a_segment_waits_for_its_own_threads_and_for_no_others() -> None:
    may_end = threading.Event()
    with SegmentThreads() as threads:
        current_segment.set(1)
        abandoned = asyncio.create_task(call(threads, may_end.wait))
        await asyncio.sleep(0)
        abandoned.cancel()
        await asyncio.wait({abandoned})

        await threads.wait_for(2)
        waiting = asyncio.create_task(threads.wait_for(1))
        await asyncio.sleep(0)
        assert not waiting.done()
        may_end.set()
        await asyncio.wait_for(waiting, 10)
        await threads.wait_for(1)
