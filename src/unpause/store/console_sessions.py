"""The browsers that are signed in to the console, and the one-time links that sign in."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, delete, insert, select

from unpause.domain.tokens import ConsoleCredential
from unpause.store.columns import Instant
from unpause.store.tables import console_sessions, login_links

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection

_FIND = select(*console_sessions.c).where(console_sessions.c.hash == bindparam("hash"))
_EXPIRED = tuple(
    delete(table).where(table.c.expires_at <= bindparam("now", type_=Instant))
    for table in (console_sessions, login_links)
)


def add_console_session(connection: Connection, session: ConsoleCredential) -> None:
    """Add a session, and delete what has expired: nothing sweeps it."""
    delete_expired(connection, session.created_at)
    connection.execute(insert(console_sessions).values(asdict(session)))


def find_console_session(connection: Connection, hashed: str) -> ConsoleCredential | None:
    """Return the session with this hash, expired or not; None where there is none."""
    row = connection.execute(_FIND, {"hash": hashed}).mappings().first()
    return None if row is None else ConsoleCredential(**row)


def delete_console_session(connection: Connection, hashed: str) -> bool:
    """Delete the session; return False where there is none."""
    found = delete(console_sessions).where(console_sessions.c.hash == hashed).returning(console_sessions.c.hash)
    return connection.execute(found).scalar() is not None


def add_login_link(connection: Connection, link: ConsoleCredential) -> None:
    """Add a one-time link."""
    connection.execute(insert(login_links).values(asdict(link)))


def use_login_link(connection: Connection, hashed: str, now: datetime) -> str | None:
    """Delete the link and return the id of its token; None for one that has expired or was used, or was never made."""
    used = delete(login_links).where(login_links.c.hash == hashed, login_links.c.expires_at > now)
    found = connection.execute(used.returning(login_links.c.token_id)).scalar()
    return None if found is None else str(found)


def delete_expired(connection: Connection, now: datetime) -> None:
    """Delete the sessions and links that have expired."""
    for statement in _EXPIRED:
        connection.execute(statement, {"now": now})
