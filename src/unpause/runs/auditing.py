"""Reads the audit trail, for administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.store.audit import list_entries

if TYPE_CHECKING:
    from unpause.domain.audit import AuditEntry
    from unpause.domain.paging import Slice
    from unpause.domain.principal import Principal
    from unpause.store.database import Database


class AuditTrail:
    """What was done in an organization; it stays when the run is gone."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_entries(self, principal: Principal, run_id: str | None, part: Slice) -> tuple[list[AuditEntry], int]:
        """Return a part of it, newest first, and how many entries there are in all; of one run, or of all."""
        return await self._database.read(
            lambda connection: list_entries(connection, principal.organization_id, run_id, part)
        )
