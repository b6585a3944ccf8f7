"""Tells what an author's code raised from a stop that was asked for: whatever it is, only its own run may suffer."""

from __future__ import annotations

import asyncio


def is_stop(error: BaseException) -> bool:
    """Whether ``error`` is how the current task learns that it was cancelled, and has to pass.

    An author's code may raise anything, ``SystemExit`` and a ``CancelledError`` of its own among it: that is a failure
    like every other.
    """
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def describe_error(error: BaseException) -> str:
    """Return what the error says, or its type where it says nothing; the text may hold secrets.

    What is no ``Exception`` is named as well: all that ``sys.exit(2)`` says is ``2``.
    """
    name = type(error).__name__
    try:
        text = str(error)
    except BaseException:  # noqa: BLE001 - an author's own __str__, which may fail like all of theirs
        return name
    if not text:
        return name
    return text if isinstance(error, Exception) else f"{name}: {text}"
