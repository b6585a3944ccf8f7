"""Notices that a database whose disk was full has room again, also where no client writes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.store.nodes import write_and_delete

if TYPE_CHECKING:
    from unpause.store.engine.database import Database


class DiskProbe:
    """Writes a row while the disk is full, larger than what still fits now and then.

    Implements ``execution.sweeper.Sweep``.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sweep(self) -> int:
        """Try to write; return 1 if there is room again."""
        if not self._database.availability.is_full:
            return 0
        await self._database.write(write_and_delete)
        self._database.availability.note_room()
        return 1
