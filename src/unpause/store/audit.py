"""The audit trail: written in the transaction of what it records."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, insert, select, type_coerce
from sqlalchemy.types import NullType

from unpause.domain.audit import AuditEntry
from unpause.store.engine.dialects import unindexed
from unpause.store.engine.statements import Statement
from unpause.store.paging import paged
from unpause.store.tables import audit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sqlalchemy import Column, ColumnElement, Select
    from sqlalchemy.engine import Connection, RowMapping

    from unpause.domain.audit import AuditFilter
    from unpause.domain.paging import Page

_INSERT = Statement(insert(audit))
# Without those of the seal, which an entry gets later.
ENTRY: Final = tuple(audit.c[field.name] for field in fields(AuditEntry))
# Rows that a driver keeps in memory while many are read.
STREAMED: Final = 500
_WRITTEN: Final = tuple(column.name for column in ENTRY if column.name != "id")


def add_entries(connection: Connection, entries: Sequence[AuditEntry]) -> None:
    """Add entries."""
    if entries:
        _INSERT.send(connection, *({name: getattr(entry, name) for name in _WRITTEN} for entry in entries))


def list_entries(
    connection: Connection, organization_id: int, chosen: AuditFilter, page: Page
) -> tuple[list[AuditEntry], int]:
    """Return a page of the organization's entries, newest first, and how many there are in all."""
    # A run has few entries, an organization many.
    column = audit.c.organization_id if chosen.run_id is None else unindexed(audit.c.organization_id)
    conditions = [column == organization_id, *_chosen(chosen)]
    order = audit.c.id if chosen.run_id is None else unindexed(audit.c.id)
    query = paged(select(*ENTRY).where(*conditions).order_by(order.desc()), page)
    counted = select(func.count()).select_from(audit).where(*conditions)
    found = [read_entry(row) for row in connection.execute(query).mappings()]
    return found, int(connection.execute(counted).scalar_one())


def read_entry(row: RowMapping | dict[str, Any]) -> AuditEntry:
    """Return the entry in a row that has its columns."""
    return AuditEntry(**{column.name: row[column.name] for column in ENTRY})


@dataclass(frozen=True, slots=True)
class UnreadableEntry:
    """The id of an entry with a value that its column cannot have: SQLite stores any value in any column."""

    id: int


def stream_rows(
    connection: Connection, query: Select[Any], columns: Sequence[Column[Any]]
) -> Iterator[dict[str, Any] | UnreadableEntry]:
    """Yield the rows' columns by their names, a few rows at a time. A row that cannot be read does not end it."""
    dialect = connection.dialect
    types = [(column.name, column.type.dialect_impl(dialect), column.type.python_type) for column in columns]
    readers = [(name, kind.result_processor(dialect, None), expected) for name, kind, expected in types]
    raw = query.with_only_columns(*(type_coerce(column, NullType()).label(column.name) for column in columns))
    for row in connection.execute(raw.execution_options(yield_per=STREAMED)).mappings():
        yield _read_row(row, readers)


def _read_row(
    row: RowMapping, readers: Sequence[tuple[str, Callable[[Any], Any] | None, type[Any]]]
) -> dict[str, Any] | UnreadableEntry:
    values: dict[str, Any] = {}
    for name, reader, expected in readers:
        try:
            value = row[name] if reader is None else reader(row[name])
        except (TypeError, ValueError):
            return UnreadableEntry(row["id"])
        if value is not None and not isinstance(value, expected):
            return UnreadableEntry(row["id"])
        values[name] = value
    return values


def stream_entries(
    connection: Connection, organization_id: int | None, chosen: AuditFilter
) -> Iterator[tuple[AuditEntry, int | None, str | None] | UnreadableEntry]:
    """Yield entries, oldest first and a few at a time, each with its number and hash once it is sealed.

    Without an organization those of all.
    """
    query = select(audit).where(*_chosen(chosen)).order_by(audit.c.id)
    if organization_id is not None:
        query = query.where(audit.c.organization_id == organization_id)
    for row in stream_rows(connection, query, (*ENTRY, audit.c.number, audit.c.hash)):
        yield row if isinstance(row, UnreadableEntry) else (read_entry(row), row["number"], row["hash"])


def _chosen(chosen: AuditFilter) -> list[ColumnElement[bool]]:
    conditions = [
        audit.c[name] == value for name in ("run_id", "actor", "action") if (value := getattr(chosen, name)) is not None
    ]
    if chosen.since is not None:
        conditions.append(audit.c.at >= chosen.since)
    if chosen.until is not None:
        conditions.append(audit.c.at < chosen.until)
    return conditions
