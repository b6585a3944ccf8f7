"""The hash chain of the audit trail: what is not sealed yet, the seals, and each organization's head."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import bindparam, delete, exists, func, select, update

from unpause.domain.audit_chain import NO_HASH, Head, Seal
from unpause.store.audit import ENTRY, UnreadableEntry, read_entry, stream_rows
from unpause.store.engine.dialects import Upsert, is_shared
from unpause.store.engine.statements import Statement
from unpause.store.tables import audit, audit_heads, organizations

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from unpause.domain.audit import AuditEntry

_UNSEALED = audit.c.number.is_(None)
_SEAL: Final = (
    audit.c.number,
    audit.c.hash,
    audit.c.actor_digest,
    audit.c.texts_digest,
    audit.c.actor_salt,
    audit.c.texts_salt,
)
# Each organization is looked up: SQLite would else read all entries, in the order of another index.
_WITH_UNSEALED = Statement(
    select(
        organizations.c.id,
        exists().where(audit_heads.c.organization_id == organizations.c.id).label("has_head"),
    )
    .where(exists().where(audit.c.organization_id == organizations.c.id, _UNSEALED))
    .order_by(organizations.c.id)
)
_WRITE_SEAL = update(audit).where(audit.c.id == bindparam("entry"))
_ADD_HEAD = Upsert(audit_heads, (audit_heads.c.organization_id,))
_HEAD: Final = (audit_heads.c.number, audit_heads.c.hash, audit_heads.c.purged_number, audit_heads.c.purged_hash)


def list_unsealed_organizations(connection: Connection) -> list[tuple[int, bool]]:
    """Return the organizations that have entries to be sealed, and whether each has a head already."""
    return [(row["id"], bool(row["has_head"])) for row in _WITH_UNSEALED.all(connection, {})]


def add_head(connection: Connection, organization_id: int) -> None:
    """Add the organization's head, unless it has one."""
    added = {"organization_id": organization_id, "hash": NO_HASH, "purged_hash": NO_HASH}
    _ADD_HEAD.on(connection).all(connection, added)


def lock_head(connection: Connection, organization_id: int, *, waits: bool = False) -> Head | None:
    """Lock the organization's head and return it; None where another process has, unless it waits for that.

    Nothing but what seals, erases or deletes entries takes this lock: requests only add unsealed ones.
    """
    query = select(*_HEAD).where(audit_heads.c.organization_id == organization_id)
    row = connection.execute(query.with_for_update(skip_locked=not waits)).first()
    return None if row is None else Head(*row)


def list_unsealed(connection: Connection, organization_id: int, limit: int) -> list[AuditEntry]:
    """Return the oldest entries that have no number. Whatever was committed is found, in whichever order that was."""
    query = select(*ENTRY).where(audit.c.organization_id == organization_id, _UNSEALED).order_by(audit.c.id)
    return [read_entry(row) for row in connection.execute(query.limit(limit)).mappings()]


def write_seals(connection: Connection, organization_id: int, seals: Sequence[tuple[AuditEntry, Seal]]) -> None:
    """Number the entries, and move the head to the last of them."""
    written = [
        {"entry": entry.id, **{column.name: getattr(sealed, column.name) for column in _SEAL}}
        for entry, sealed in seals
    ]
    connection.execute(_WRITE_SEAL, written)
    newest = seals[-1][1]
    moved = update(audit_heads).where(audit_heads.c.organization_id == organization_id)
    connection.execute(moved.values(number=newest.number, hash=newest.hash))


def list_chains(connection: Connection, organization_id: int | None) -> list[tuple[int, Head, int]]:
    """Return each organization with its head and the number of entries that are not sealed yet."""
    unsealed = select(func.count()).where(audit.c.organization_id == organizations.c.id, _UNSEALED).scalar_subquery()
    query = (
        select(organizations.c.id, *_HEAD, unsealed)
        .outerjoin(audit_heads, audit_heads.c.organization_id == organizations.c.id)
        .order_by(organizations.c.id)
    )
    if organization_id is not None:
        query = query.where(organizations.c.id == organization_id)
    return [
        (number, Head() if head[0] is None else Head(*head), waiting)
        for number, *head, waiting in connection.execute(query)
    ]


def stream_sealed(connection: Connection, organization_id: int) -> Iterator[tuple[AuditEntry, Seal] | UnreadableEntry]:
    """Yield the organization's sealed entries in the order of their numbers, a few at a time."""
    query = (
        select(audit)
        .where(audit.c.organization_id == organization_id, audit.c.number.is_not(None))
        .order_by(audit.c.number)
    )
    for row in stream_rows(connection, query, (*ENTRY, *_SEAL)):
        if isinstance(row, UnreadableEntry):
            yield row
        else:
            yield read_entry(row), Seal(**{column.name: row[column.name] for column in _SEAL})


def begin_snapshot(connection: Connection) -> None:
    """Have the transaction, which has done nothing yet, read one state of the database to its end."""
    if is_shared(connection):
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        return
    # Bytes that are no text, which only somebody who changed the file can have stored, must not end it.
    driver: Any = connection.connection.dbapi_connection
    driver.text_factory = partial(str, encoding="utf-8", errors="replace")
    connection.exec_driver_sql("BEGIN")


def delete_oldest(connection: Connection, organization_id: int, head: Head, before: datetime, limit: int) -> int:
    """Delete entries of before, from the oldest one on, and note where the chain begins now; return how many.

    The head is locked. What is not sealed yet stays.
    """
    query = (
        select(audit.c.number, audit.c.hash, audit.c.at)
        .where(audit.c.organization_id == organization_id, audit.c.number > head.purged_number)
        .order_by(audit.c.number)
        .limit(limit)
    )
    last: Any = None
    count = 0
    for row in connection.execute(query):
        if row.at >= before:
            break
        last, count = row, count + 1
    if last is None:
        return 0
    moved = update(audit_heads).where(audit_heads.c.organization_id == organization_id)
    connection.execute(moved.values(purged_number=last.number, purged_hash=last.hash))
    gone = delete(audit).where(audit.c.organization_id == organization_id, audit.c.number <= last.number)
    connection.execute(gone)
    return count
