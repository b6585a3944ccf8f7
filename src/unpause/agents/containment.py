"""Tells what an author's code raised from the cancellation of its task: a failure ends only its own run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def is_stop(error: BaseException) -> bool:
    """Whether ``error`` is the cancellation of the current task, and has to pass.

    An author's code may raise ``SystemExit`` or a ``CancelledError`` of its own: that is a failure like every other.
    """
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def describe_error(error: BaseException) -> str:
    """Return the error's message, or its type without one; the text may hold secrets.

    What is no ``Exception`` is named as well: the message of ``sys.exit(2)`` is ``2``.
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
    except BaseException as error:  # the boundary around an author's __str__ or __repr__
        if is_stop(error):
            raise
        return None
