"""Seals the audit trail: gives committed entries their numbers, and chains them by hash.

Not in the transaction that adds an entry: then all changes of an organization would wait for one another at its head.
Until an entry is sealed, which takes a sweep, the chain says nothing about it.
"""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING, Final

import structlog

from unpause.domain.audit_chain import Seal, seal
from unpause.errors import DatabaseBusy, DatabaseUnavailable
from unpause.store.audit_chain import add_head, list_unsealed, list_unsealed_organizations, lock_head, write_seals

if TYPE_CHECKING:
    from unpause.domain.audit import AuditEntry
    from unpause.domain.audit_chain import Head
    from unpause.store.engine.database import Connection, Database

_log = structlog.get_logger(__name__)

# Entries of one transaction: on SQLite all other writers wait for it.
BATCH: Final = 200
# Of one organization in one sweep.
_MAX_BATCHES: Final = 20


class AuditSealing:
    """Sweeps for entries that are not sealed; of several processes one seals those of an organization at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def sweep(self) -> int:
        """Seal what has been committed; return how many entries."""
        # Reading first keeps an idle server from writing.
        organizations = await self._database.query(list_unsealed_organizations)
        count = 0
        for organization_id, has_head in organizations:
            try:
                count += await self._seal(organization_id, has_head=has_head)
            except DatabaseUnavailable:
                raise
            except DatabaseBusy:
                _log.warning("audit trail not sealed: row locked", organization_id=organization_id)
            except Exception:  # noqa: BLE001 - the trail of one organization, which somebody changed, holds up no other
                _log.exception("audit trail not sealed", organization_id=organization_id)
        return count

    async def _seal(self, organization_id: int, *, has_head: bool) -> int:
        if not has_head:
            # By itself: a row that another transaction adds cannot be skipped like a locked one.
            await self._database.write(lambda connection: add_head(connection, organization_id))
        count = 0
        for _ in range(_MAX_BATCHES):
            batch = await self._database.write(lambda connection: seal_batch(connection, organization_id), waits=False)
            count += batch
            if batch < BATCH:
                break
        return count


def seal_batch(connection: Connection, organization_id: int) -> int:
    """Seal the oldest entries of the organization; return how many: none where another process is doing so."""
    head = lock_head(connection, organization_id)
    if head is None:
        return 0
    return len(seal_after(connection, organization_id, head))


def seal_after(connection: Connection, organization_id: int, head: Head) -> list[tuple[AuditEntry, Seal]]:
    """Seal the oldest entries of the organization, whose head is locked; return them with their seals."""
    sealed: list[tuple[AuditEntry, Seal]] = []
    last: Head | Seal = head
    for entry in list_unsealed(connection, organization_id, BATCH):
        last = seal(entry, last, lambda: token_hex(16))
        sealed.append((entry, last))
    if sealed:
        write_seals(connection, organization_id, sealed)
    return sealed
