"""Runs the event loop of a process until its main task ends, whatever else raises in it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_log = structlog.get_logger(__name__)


def run_main(
    main: Coroutine[Any, Any, None], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> None:
    """Run ``main`` to its end, and raise what it raises.

    asyncio lets ``SystemExit`` and ``KeyboardInterrupt`` out of the loop from whichever task or callback raises them.
    Here they do not stop the process: a task has its exception all the same, and whoever waits for it gets that. Those
    who run the process stop it by its signals, which ``main`` hears of by handlers of its own.
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
                _log.error("something tried to end the process; it goes on", error=type(error).__name__)
            else:
                return
