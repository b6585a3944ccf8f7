"""Checks that this code works with the schema of a database."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import create_engine, inspect, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from unpause.errors import InvalidSetting
from unpause.store.engine.database import parse_url, secrets_in_url
from unpause.store.engine.revisions import SCHEMA_REVISION, SchemaState, read_session_name
from unpause.store.engine.servers import connection_arguments
from unpause.store.tables import schema_compatibility

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine

    from unpause.store.engine.revisions import SchemaRange

_log = structlog.get_logger(__name__)

_SESSIONS = text("SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = current_database() ORDER BY 1")
_OLDEST_CODE = select(schema_compatibility.c.oldest_code)


def find_schema(connection: Connection) -> SchemaState:
    """Return the state of the database's schema."""
    tables = inspect(connection)
    if not tables.has_table("alembic_version"):
        return SchemaState(None)
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    state = SchemaState(None if revision is None else str(revision))
    if not state.is_ahead or not tables.has_table(schema_compatibility.name):
        return state
    return SchemaState(state.revision, connection.execute(_OLDEST_CODE).scalar())


def check_schema(connection: Connection) -> SchemaState:
    """Return the schema; raise SchemaMismatch, naming the command to run, where this code does not work with it."""
    state = find_schema(connection)
    state.require_supported()
    return state


def list_sessions(connection: Connection) -> list[tuple[str, SchemaRange]]:
    """Return the processes that are connected to a PostgreSQL, by the names of their connections."""
    if connection.dialect.name == "sqlite":
        return []
    names = connection.execute(_SESSIONS).scalars()
    return [(name, schemas) for name in names if (schemas := read_session_name(name)) is not None]


def plain_engine(database_url: str) -> Engine:
    """Return an engine for work outside the server: one connection at a time, no pragmas.

    Foreign keys stay off on SQLite: with them on, a migration that rebuilds a parent table empties its children.
    """
    url = parse_url(database_url)
    arguments = {} if url.drivername == "sqlite" else connection_arguments(url, application_name="unpause command")
    return create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)


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
    """Raise SchemaMismatch unless this code works with the schema of the database there."""
    with plain_connection(database_url) as connection:
        state = check_schema(connection)
    if not state.is_current:
        _log.warning("database schema differs", schema=state.revision, newest_known=SCHEMA_REVISION)
