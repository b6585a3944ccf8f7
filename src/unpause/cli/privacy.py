"""Keeps what is in this process's memory, its keys above all, from other processes of the same user."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_PR_SET_DUMPABLE: Final = 4


def forbid_looking_in() -> None:
    """Let no other process read this one's memory, environment or open files under ``/proc``, or trace it; Linux only.

    Root can all the same. No core is written, either. What this process starts is not bound by it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
