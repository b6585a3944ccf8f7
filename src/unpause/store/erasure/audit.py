"""Erases a user from the audit trail: with each name or text its salt goes, so that the chain stays whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Text, cast, or_, select, update

from unpause.domain.audit import AuditAction
from unpause.store.audit import ENTRY, read_entry
from unpause.store.erasure.names import mentions
from unpause.store.erasure.texts import is_neutral
from unpause.store.tables import audit, runs, sessions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from unpause.domain.audit import AuditEntry
    from unpause.domain.erasure import Erased

# Their subject is a session's id, which a client may have chosen.
_OF_SESSIONS: Final = (AuditAction.SESSION_CHANGED.value, AuditAction.SESSION_DELETED.value)


def find_entries(connection: Connection, erased: Erased, after: int | None, limit: int) -> Sequence[int]:
    """Return the numbers of some sealed entries that may have something of the user, after a number."""
    of_user = (runs.c.organization_id == erased.organization_id, runs.c.user_id.in_([erased.name, erased.pseudonym]))
    of_sessions = select(sessions.c.session_id).where(
        sessions.c.organization_id == erased.organization_id,
        sessions.c.user_id.in_([erased.name, erased.pseudonym]),
    )
    query = (
        select(audit.c.number)
        .where(
            audit.c.organization_id == erased.organization_id,
            audit.c.number > (after or 0),
            or_(
                audit.c.actor == erased.name,
                audit.c.run_id.in_(select(runs.c.run_id).where(*of_user)),
                audit.c.action.in_(_OF_SESSIONS) & audit.c.subject.in_(of_sessions),
                mentions(cast(audit.c.details, Text), erased.name),
            ),
        )
        .order_by(audit.c.number)
        .limit(limit)
    )
    return connection.execute(query).scalars().all()


def erase_entries(connection: Connection, erased: Erased, numbers: Sequence[int]) -> tuple[list[int], list[int]]:
    """Erase the user from these entries of the organization, whose head is locked; return which were changed.

    That is the numbers of those whose actor has the pseudonym now, and of those that have lost texts.
    """
    chosen = (audit.c.organization_id == erased.organization_id, audit.c.number.in_(numbers))
    query = select(*ENTRY, audit.c.number, audit.c.texts_salt).where(*chosen).order_by(audit.c.number)
    actors: list[int] = []
    texts: list[int] = []
    for row in connection.execute(query).mappings().all():
        entry = read_entry(row)
        changed: dict[str, Any] = {}
        if entry.actor == erased.name:
            changed |= {"actor": erased.pseudonym, "actor_salt": None}
            actors.append(row["number"])
        without = _without_texts(entry, erased)
        if without:
            changed |= {**without, "texts_salt": None}
            # An entry may name two users that are erased: it loses its texts' salt once.
            texts += [row["number"]] if row["texts_salt"] is not None else []
        if changed:
            connection.execute(update(audit).where(audit.c.id == entry.id).values(changed))
    return actors, texts


def _without_texts(entry: AuditEntry, erased: Erased) -> dict[str, Any]:
    """Return the columns that have to change: notes and addresses of the user, notes about the user's runs, names."""
    changed: dict[str, Any] = {}
    if entry.actor == erased.name and entry.address is not None:
        changed["address"] = None
    if entry.note is not None:
        changed["note"] = None
    if entry.action in _OF_SESSIONS and not is_neutral(entry.subject):
        changed["subject"] = None
    details = None if entry.details is None else erased.replaced(dict(entry.details))
    if details is not None and not is_neutral(details.get("session_id")):
        del details["session_id"]
    if details != entry.details:
        changed["details"] = details
    return changed
