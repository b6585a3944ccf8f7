"""Looks, every few seconds, for what time has made due."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from unpause.execution.background import background_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from unpause.runs.expiry import Expiry

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def sweeping(expiry: Expiry, every_seconds: float) -> AsyncIterator[None]:
    """Sweep in the background during the block."""
    async with background_tasks() as tasks:
        sweeper = tasks.create_task(_sweep(expiry, every_seconds), name="sweeper")
        try:
            yield
        finally:
            sweeper.cancel()


async def _sweep(expiry: Expiry, every_seconds: float) -> None:
    while True:
        try:
            await expiry.sweep()
        except Exception:  # noqa: BLE001 - a database that is away for a while must not end the sweeping
            _log.exception("sweep failed; it is tried again")
        await asyncio.sleep(every_seconds)
