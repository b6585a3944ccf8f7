"""Brings a database's schema up or down: Alembic, for the command line. A serving process does not load this."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from unpause.errors import SchemaMismatch
from unpause.store.schema import find_revision, plain_engine
from unpause.store.tables import metadata

_PACKAGE = Path(__file__).resolve().parents[1]


def migrations_folder() -> Path:
    """Return where the migrations are: inside an installed package, or at the top of a checkout."""
    packaged = _PACKAGE / "_migrations"
    return packaged if packaged.is_dir() else _PACKAGE.parents[1] / "migrations"


def upgrade(database_url: str, revision: str = "head") -> None:
    """Bring the schema up to ``revision``; a new SQLite file is created."""
    command.upgrade(_config(database_url), revision)


def downgrade(database_url: str, revision: str) -> None:
    """Bring the schema down to ``revision``; ``base`` removes all of it, with the data."""
    command.downgrade(_config(database_url), revision)


def current(database_url: str) -> str | None:
    """Return the revision the database is at, or None for one without a schema."""
    with plain_engine(database_url).connect() as connection:
        return find_revision(connection)


def head() -> str:
    """Return the newest revision of the migrations."""
    return str(ScriptDirectory(str(migrations_folder())).get_current_head())


def check(database_url: str) -> None:
    """Raise SchemaMismatch, naming them, where the database and the tables of the code differ."""
    with plain_engine(database_url).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "render_as_batch": True})
        differences = compare_metadata(context, metadata)
    if differences:
        listed = "; ".join(str(difference) for difference in differences)
        raise SchemaMismatch(f"The migrations and the tables of the code differ: {listed}")


def _config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    config.attributes["database_url"] = database_url
    return config
