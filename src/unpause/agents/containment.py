"""Tells what an author's code raised from the cancellation of its task: a failure ends only its own run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


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
    text = write(error)
    if not text:
        return name
    return text if isinstance(error, Exception) else f"{name}: {text}"


def write(value: object, how: Callable[[object], str] = str) -> str | None:
    """Return the text of an author's object; None where its own ``__str__`` or ``__repr__`` fails."""
    try:
        return how(value)
    except BaseException as error:
        if is_stop(error):
            raise
        return None
