"""Which users are being erased, and what is stored of one: an erasure that was interrupted goes on where it stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Text, cast, delete, func, select, update

from unpause.domain.erasure import Erased
from unpause.store.engine.dialects import Upsert
from unpause.store.erasure.names import mentions
from unpause.store.run_queue import FINAL_STATUSES
from unpause.store.tables import (
    approvals,
    audit,
    grants,
    inputs,
    notification_channels,
    requirements,
    runs,
    sessions,
    tokens,
    user_erasures,
    users,
)

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Column, ColumnElement
    from sqlalchemy.engine import Connection

_BEGIN: Final = Upsert(user_erasures, (user_erasures.c.organization_id, user_erasures.c.name))
_ROWS: Final = 500
# Where it stands in lists: an entry of the trail says so, too, unless that is purged.
_LISTED: Final[tuple[tuple[str, Column[Any]], ...]] = (
    ("votes", requirements.c.votes),
    ("requirements to decide", requirements.c.deciders),
    ("grants by votes", grants.c.deciders),
)
# Where the name stands in a column of its own, by what it is called for people.
_COUNTED: Final[tuple[tuple[str, Column[str]], ...]] = (
    ("runs", runs.c.user_id),
    ("sessions", sessions.c.user_id),
    ("tokens", tokens.c.user_id),
    ("channels", notification_channels.c.user_id),
    ("audit entries", audit.c.actor),
    ("grants", grants.c.user_id),
    ("grants of others", grants.c.granted_by),
    ("grants of others that apply to all", grants.c.granter),
    ("revoked grants", grants.c.revoked_by),
    ("approvals", approvals.c.user_id),
    ("resolved approvals", approvals.c.resolved_by),
    ("decisions", requirements.c.decided_by),
    ("continued runs", runs.c.continued_by),
    ("users", users.c.name),
)


def find_erasure(connection: Connection, organization_id: int, name: str) -> Erased | None:
    """Return the erasure that was begun and has not ended."""
    query = select(user_erasures.c.pseudonym).where(*_is(organization_id, name))
    pseudonym = connection.execute(query).scalar()
    return None if pseudonym is None else Erased(organization_id, name, pseudonym)


def begin_erasure(connection: Connection, erased: Erased, now: datetime) -> None:
    """Note the pseudonym, so that an interrupted erasure goes on with it; another one that has begun stays."""
    values = {
        "organization_id": erased.organization_id,
        "name": erased.name,
        "pseudonym": erased.pseudonym,
        "started_at": now,
    }
    _BEGIN.on(connection).all(connection, values)


def end_erasure(connection: Connection, erased: Erased) -> None:
    """Give the user the pseudonym, and forget which name it stands for."""
    of_user = (users.c.organization_id == erased.organization_id, users.c.name == erased.name)
    changed = {"name": erased.pseudonym, "full_name": None, "email": None}
    connection.execute(update(users).where(*of_user).values(changed))
    connection.execute(delete(user_erasures).where(*_is(erased.organization_id, erased.name)))


def find_newest(connection: Connection, organization_id: int) -> tuple[int, int]:
    """Return the keys of the organization's newest run and audit entry, 0 without any.

    What comes later is for another round: while others go on, there is always more.
    """
    keys = (
        connection.execute(select(func.max(table.c.id)).where(table.c.organization_id == organization_id)).scalar()
        for table in (runs, audit)
    )
    run, entry = (key or 0 for key in keys)
    return run, entry


def count_rows(connection: Connection, organization_id: int, name: str) -> dict[str, int]:
    """Return how many rows have the name, by what they are; without those that have none."""
    counts: dict[str, int] = {}
    erased = Erased(organization_id, name, "")
    for what, column in _COUNTED:
        table = column.table
        query = select(func.count()).select_from(table)
        query = query.where(table.c.organization_id == organization_id, column == name)
        counts[what] = int(connection.execute(query).scalar_one())
    written = select(func.count()).select_from(inputs.join(runs, runs.c.id == inputs.c.run_key))
    written = written.where(runs.c.organization_id == organization_id, inputs.c.created_by == name)
    counts["prompts"] = int(connection.execute(written).scalar_one())
    for what, names in _LISTED:
        query = select(names).where(names.table.c.organization_id == organization_id, mentions(cast(names, Text), name))
        found = connection.execute(query.execution_options(yield_per=_ROWS)).scalars()
        counts[what] = sum(erased.replaced_names(value) != value for value in found)
    return {what: count for what, count in counts.items() if count}


def list_unfinished(connection: Connection, organization_id: int, name: str) -> list[tuple[int, str, str]]:
    """Return the user's runs that have not ended: id, UUID and status."""
    query = select(runs.c.id, runs.c.run_id, runs.c.status).where(
        runs.c.organization_id == organization_id, runs.c.user_id == name, runs.c.status.not_in(FINAL_STATUSES)
    )
    return [(row.id, row.run_id, row.status) for row in connection.execute(query.order_by(runs.c.id))]


def _is(organization_id: int, name: str) -> tuple[ColumnElement[bool], ...]:
    return (user_erasures.c.organization_id == organization_id, user_erasures.c.name == name)
