"""Frees what a process locked that froze within a transaction, such as a machine that was suspended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from unpause.store.engine.frozen import end_open_transactions

if TYPE_CHECKING:
    from datetime import timedelta

    from unpause.store.engine.database import Database

_log = structlog.get_logger(__name__)


class OpenTransactions:
    """Ends those in which nothing happened for ``idle``. Only PostgreSQL has such: a SQLite file has one process."""

    def __init__(self, database: Database, idle: timedelta) -> None:
        self._database = database
        self._idle = idle

    async def sweep(self) -> int:
        """End them, and return how many there were."""
        ended = await self._database.write(lambda connection: end_open_transactions(connection, self._idle))
        if ended:
            _log.warning("ended transactions that were left open", ended=ended)
        return ended
