"""Checks that the database's schema is the one this code was written for."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from unpause.errors import InvalidSetting, SchemaMismatch
from unpause.store.engine.database import parse_url, secrets_in_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine

# The newest migration. Written down here so that a server need not load Alembic; a test compares it with the tree.
SCHEMA_REVISION = "0014"


def find_revision(connection: Connection) -> str | None:
    """Return the revision the database is at, or None for one without a schema."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if revision is None else str(revision)


def check_schema(connection: Connection) -> None:
    """Raise SchemaMismatch, naming the command to run, unless the schema is this code's."""
    found = find_revision(connection)
    if found == SCHEMA_REVISION:
        return
    if found is None or found < SCHEMA_REVISION:
        raise SchemaMismatch(
            f"The database schema is at {found or 'nothing'}, this server needs {SCHEMA_REVISION}: "
            "run `unpause db upgrade`"
        )
    raise SchemaMismatch(
        f"The database schema is at {found}, ahead of this server's {SCHEMA_REVISION}: install the newer unpause, "
        f"or with the newer one run `unpause db downgrade {SCHEMA_REVISION}`"
    )


def plain_engine(database_url: str) -> Engine:
    """Return an engine for work outside the server: one connection at a time, no pragmas.

    Foreign keys stay off on SQLite: with them on, a migration that rebuilds a parent table empties its children.
    """
    return create_engine(parse_url(database_url), poolclass=NullPool, hide_parameters=True)


@contextmanager
def plain_connection(database_url: str) -> Iterator[Connection]:
    """Connect for work outside the server; raise InvalidSetting where it is no database or cannot be reached."""
    try:
        with plain_engine(database_url).connect() as connection:
            yield connection
    except DBAPIError as error:
        reason = str(error.orig)
        for secret in secrets_in_url(database_url):
            reason = reason.replace(secret, "[hidden]")
        raise InvalidSetting(f"database_url: the database cannot be used: {reason}") from None


def check_database(database_url: str) -> None:
    """Raise SchemaMismatch unless the database there has this code's schema."""
    with plain_connection(database_url) as connection:
        check_schema(connection)
