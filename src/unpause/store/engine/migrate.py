"""Brings a database's schema up or down: Alembic, for the command line. A serving process does not load this."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy.exc import DBAPIError

from unpause.errors import DatabaseInUse, InvalidSetting, SchemaMismatch
from unpause.store.engine.database import database_file
from unpause.store.engine.failures import LOCK_NOT_AVAILABLE
from unpause.store.engine.ownership import create_private
from unpause.store.engine.schema import find_revision, plain_connection
from unpause.store.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

_PACKAGE = Path(__file__).resolve().parents[2]


def migrations_folder() -> Path:
    """Return where the migrations are: inside an installed package, or at the top of a checkout."""
    packaged = _PACKAGE / "_migrations"
    return packaged if packaged.is_dir() else _PACKAGE.parents[1] / "migrations"


def upgrade(database_url: str, revision: str = "head") -> None:
    """Bring the schema up to ``revision``; a new SQLite file is created, for this user alone."""
    file = database_file(database_url)
    if file is not None and file.parent.is_dir():
        create_private(file)
    with _translated_errors():
        command.upgrade(_config(database_url), revision)


def downgrade(database_url: str, revision: str) -> None:
    """Bring the schema down to ``revision``; ``base`` removes all of it, with the data."""
    with _translated_errors():
        command.downgrade(_config(database_url), revision)


def current(database_url: str) -> str | None:
    """Return the revision the database is at, or None for one without a schema."""
    with plain_connection(database_url) as connection:
        return find_revision(connection)


def head() -> str:
    """Return the newest revision of the migrations."""
    return str(ScriptDirectory(str(migrations_folder())).get_current_head())


def check(database_url: str) -> None:
    """Raise SchemaMismatch, naming them, where the database and the tables of the code differ."""
    with plain_connection(database_url) as connection:
        if find_revision(connection) is None:
            raise SchemaMismatch("The database has no schema: run `unpause db upgrade`")
        context = MigrationContext.configure(connection, opts={"compare_type": True, "render_as_batch": True})
        differences = compare_metadata(context, metadata)
    if differences:
        listed = "; ".join(str(difference) for difference in differences)
        raise SchemaMismatch(f"The migrations and the tables of the code differ: {listed}")


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Translate Alembic's errors, such as one about an unknown revision, into the server's."""
    try:
        yield
    except CommandError as error:
        raise SchemaMismatch(f"The database schema was not changed: {error}") from None
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE:
            raise DatabaseInUse(
                "The database schema was not changed: another transaction holds one of its tables. End it (see "
                "pg_stat_activity), or give it more time with UNPAUSE_LOCK_TIMEOUT_SECONDS, and try again"
            ) from None
        raise InvalidSetting(f"database_url: the database cannot be used: {error.orig}") from None


def _config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    config.attributes["database_url"] = database_url
    return config
