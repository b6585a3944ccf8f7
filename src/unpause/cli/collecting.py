"""Keeps the garbage collector away from what a process loads at its start and needs to its end."""

from __future__ import annotations

import gc


def freeze_loaded() -> None:
    """Leave out of every later collection what there is now.

    Modules, agents and schemas are two hundred thousand objects. To look at all of them stops a process for 0.1 to 0.2
    seconds, now and again while it works: that long a run that became ready would wait for its start.
    """
    gc.collect()
    gc.freeze()
