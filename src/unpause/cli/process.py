"""What a process does for itself: its garbage, and its main task."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_log = structlog.get_logger(__name__)

_NEW_OBJECTS: Final = 20_000


def freeze_loaded() -> None:
    """Leave all present objects out of later collections.

    Modules, agents and schemas are two hundred thousand objects, most of which were left out after they were loaded
    (``loading``). Looking at all of them stops a process for 0.1 to 0.2 seconds now and again, and a run that becomes
    ready would wait that long for its start. What comes later is looked at less often than by default, where
    collections took a tenth of a busy server's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 50)


def run_main(
    main: Coroutine[Any, Any, None], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> None:
    """Run ``main`` to its end, and raise what it raises.

    asyncio lets ``SystemExit`` and ``KeyboardInterrupt`` out of the loop from whichever task or callback raises them.
    Here they do not stop the process: the task keeps its exception, for the code that awaits it. Signals stop
    the process, and ``main`` has its own handlers for them.
    """
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        loop = runner.get_loop()
        task = loop.create_task(main)
        while True:
            try:
                loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt) as error:
                if task.done():
                    raise
                _log.error("process exit requested by a task; ignored", error=type(error).__name__)
            else:
                return
