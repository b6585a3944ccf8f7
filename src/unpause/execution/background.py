"""Tasks that run beside a block and end with it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def background_tasks() -> AsyncIterator[asyncio.TaskGroup]:
    """Yield a task group for the length of the block.

    What the block raises comes out as itself; in an ExceptionGroup only when one of the tasks failed too.
    """
    raised: list[Exception] = []
    try:
        async with asyncio.TaskGroup() as tasks:
            try:
                yield tasks
            except Exception as error:
                raised.append(error)
                raise
    except BaseExceptionGroup as group:
        if list(group.exceptions) != raised:
            raise
    if raised:
        raise raised[0]
