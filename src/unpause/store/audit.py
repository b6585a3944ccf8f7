"""The audit trail: written in the transaction of what it records, never changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select

from unpause.domain.audit import AuditAction, AuditEntry
from unpause.store.engine.statements import Statement
from unpause.store.paging import paged
from unpause.store.tables import audit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection, RowMapping

    from unpause.domain.paging import Page

_INSERT = Statement(insert(audit))
_WRITTEN = tuple(column.name for column in audit.c if column.name != "id")


def add_entries(connection: Connection, entries: Sequence[AuditEntry]) -> None:
    """Add entries."""
    if entries:
        _INSERT.send(connection, *({name: getattr(entry, name) for name in _WRITTEN} for entry in entries))


def list_entries(
    connection: Connection, organization_id: int, run_id: str | None, page: Page
) -> tuple[list[AuditEntry], int]:
    """Return a page of the organization's entries, newest first, and how many there are; of one run, or of all."""
    conditions = [audit.c.organization_id == organization_id]
    if run_id is not None:
        conditions.append(audit.c.run_id == run_id)
    query = paged(select(*audit.c).where(*conditions).order_by(audit.c.id.desc()), page)
    counted = select(func.count()).select_from(audit).where(*conditions)
    found = [_entry(row) for row in connection.execute(query).mappings()]
    return found, int(connection.execute(counted).scalar_one())


def _entry(row: RowMapping) -> AuditEntry:
    return AuditEntry(**{**row, "action": AuditAction(row["action"])})
