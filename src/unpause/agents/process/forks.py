"""What a tool forks has no part in the process's work: it cannot speak to the server, and ends where it comes back."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

T = TypeVar("T")


def cut_off_forks(loop: asyncio.AbstractEventLoop, *links: int) -> None:
    """Have a process that is forked from this one lose these sockets, and end once it reaches the event loop.

    An ``async`` tool that forks, and whose child does not exit, goes on twice: both processes would read and write the
    one socket. To be called in the thread of the event loop.
    """
    thread = threading.get_ident()

    def cut_off() -> None:
        null = os.open(os.devnull, os.O_RDWR)
        for link in links:
            os.dup2(null, link, inheritable=False)
        os.close(null)
        if threading.get_ident() == thread:
            loop.call_soon(os._exit, 0)

    os.register_at_fork(after_in_child=cut_off)


def ending_forks(function: Callable[[], T]) -> T:
    """Call it in a thread; a process that was forked there meanwhile ends when it returns or raises."""
    pid = os.getpid()
    try:
        return function()
    finally:
        if os.getpid() != pid:
            os._exit(0)
