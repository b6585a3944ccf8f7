"""Measures how long the event loop's own thread is busy with one callback, whatever else the machine has to do."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock


@dataclass
class LoopTime:
    """``longest`` are the seconds of CPU time that the longest callback took until now, ``what`` is that callback."""

    longest: float = 0.0
    what: str = ""

    def reset(self) -> None:
        """Forget what was measured."""
        self.longest, self.what = 0.0, ""


@contextmanager
def measured_loop() -> Iterator[LoopTime]:
    """Measure every callback of every loop of this thread during the block.

    What was loaded until now is not searched for garbage meanwhile, as in a server: a test process has loaded more.
    """
    gc.collect()
    gc.freeze()
    found = LoopTime()
    run = asyncio.Handle._run  # noqa: SLF001 - there is no public place that sees each callback

    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        taken = time.thread_time() - began
        if taken > found.longest:
            found.longest, found.what = taken, repr(handle)

    try:
        with mock.patch.object(asyncio.Handle, "_run", timed):
            yield found
    finally:
        gc.unfreeze()
