"""Brings a database's schema up or down: Alembic, for the command line. A serving process does not load this."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util.exc import CommandError
from sqlalchemy import delete, insert
from sqlalchemy.exc import DBAPIError

from unpause.errors import DatabaseInUse, InvalidSetting, SchemaMismatch
from unpause.store.engine.database import database_file
from unpause.store.engine.failures import LOCK_NOT_AVAILABLE
from unpause.store.engine.migration_locks import retry_locked
from unpause.store.engine.ownership import create_private
from unpause.store.engine.revisions import SCHEMA_REVISION, SchemaState
from unpause.store.engine.schema import find_schema, list_sessions, plain_connection
from unpause.store.tables import metadata, schema_compatibility

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from sqlalchemy.engine import Connection

# Differences, by Alembic's names, that code cannot do without.
LACKS: Final = ("add_table", "add_column")

# Called with a line for the operator when a migration has to wait.
Report: TypeAlias = "Callable[[str], None]"

_PACKAGE = Path(__file__).resolve().parents[2]


def migrations_folder() -> Path:
    """Return where the migrations are: inside an installed package, or at the top of a checkout."""
    packaged = _PACKAGE / "_migrations"
    return packaged if packaged.is_dir() else _PACKAGE.parents[1] / "migrations"


def upgrade(database_url: str, revision: str = "head", *, force: bool = False, report: Report | None = None) -> None:
    """Bring the schema up to ``revision``; a new SQLite file is created, for this user alone.

    A newer one that this code works with stays: during a rolling upgrade an old node may run this when it starts.
    ``report`` gets a line when it has to wait. Raises DatabaseInUse while nodes are connected that do not work with the
    new schema, unless ``force``.
    """
    _require_revision(revision)
    file = database_file(database_url)
    if file is not None and file.parent.is_dir():
        create_private(file)
    with _translated_errors():
        state, tree = current(database_url), _tree()
        if _is_unknown(state) and revision == "head":
            state.require_supported()
            return
        steps = list(tree.iterate_revisions(revision, state.revision or "base", implicit_base=True))
        if steps and not force:
            _require_fitting_nodes(database_url, steps[0].revision, tree)
        retry_locked(lambda: command.upgrade(_config(database_url, report), revision), report)


def downgrade(database_url: str, revision: str, *, force: bool = False, report: Report | None = None) -> None:
    """Bring the schema down to ``revision``; ``base`` removes all of it, with the data.

    Raises DatabaseInUse while nodes are connected that do not work with the old schema, unless ``force``.
    """
    _require_revision(revision)
    state, tree = current(database_url), _tree()
    if _is_unknown(state):
        raise SchemaMismatch(
            f"The database schema is at {state.revision}, ahead of this server's {SCHEMA_REVISION}: "
            "only the newer unpause can downgrade it"
        )
    with _translated_errors():
        steps = list(tree.iterate_revisions(state.revision or "base", revision, select_for_downgrade=True))
        if steps and not force:
            _require_fitting_nodes(database_url, cast("str | None", steps[-1].down_revision), tree)
        retry_locked(lambda: command.downgrade(_config(database_url, report), revision), report)


def _require_revision(revision: str) -> None:
    """Raise SchemaMismatch for an empty text, which Alembic takes for a mistake in itself."""
    if not revision:
        raise SchemaMismatch("The database schema was not changed: the revision is empty")


def _require_fitting_nodes(database_url: str, revision: str | None, tree: ScriptDirectory) -> None:
    """Raise DatabaseInUse while nodes are connected that do not work with that revision."""
    reached = SchemaState(revision, _oldest_code(tree, revision))
    with plain_connection(database_url) as connection:
        unfit = [name for name, schemas in list_sessions(connection) if not reached.suits(schemas)]
    if unfit:
        raise DatabaseInUse(
            f"The database schema was not changed: connected processes do not work with {revision or 'nothing'}: "
            f"{', '.join(unfit)}. Stop them, or use --force"
        )


def current(database_url: str) -> SchemaState:
    """Return the state of the database's schema."""
    with plain_connection(database_url) as connection:
        return find_schema(connection)


def _is_unknown(state: SchemaState) -> bool:
    """Whether the database has been upgraded by a newer version: its migrations are not here."""
    return state.revision is not None and state.revision > head()


def head() -> str:
    """Return the newest revision of the migrations."""
    return str(_tree().get_current_head())


def check(database_url: str) -> None:
    """Raise SchemaMismatch, naming them, where the database and the tables of the code differ.

    Where they are of different revisions and work together, only what the code lacks in a newer schema is reported.
    """
    with plain_connection(database_url) as connection:
        state = find_schema(connection)
        state.require_supported()
        differences = [] if state.is_behind else compare(connection)
    if state.is_ahead:
        differences = [each for each in differences if each[0] in LACKS]
    if differences:
        listed = "; ".join(str(difference) for difference in differences)
        raise SchemaMismatch(f"The migrations and the tables of the code differ: {listed}")


def compare(connection: Connection) -> list[Any]:
    """Return what differs between the database and the tables of the code, as Alembic's operations to apply."""
    context = MigrationContext.configure(connection, opts={"compare_type": True, "render_as_batch": True})
    return list(compare_metadata(context, metadata))


def record_compatibility(connection: Connection, tree: ScriptDirectory, heads: Collection[str]) -> None:
    """Write into the database which code works with the schema that has just been reached."""
    oldest_code = _oldest_code(tree, next(iter(heads), None))
    if oldest_code is not None:
        connection.execute(delete(schema_compatibility))
        connection.execute(insert(schema_compatibility), {"oldest_code": oldest_code})


def _oldest_code(tree: ScriptDirectory, revision: str | None) -> str | None:
    """Return the oldest code that works with the schema of the revision; None for those that do not record it."""
    scripts = tree.walk_revisions("base", revision) if revision else ()
    needed = (getattr(script.module, "oldest_code", None) for script in scripts)
    return max(filter(None, needed), default=None)


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Translate Alembic's errors, such as one about an unknown revision, into the server's."""
    try:
        yield
    except (CommandError, RevisionError) as error:
        raise SchemaMismatch(f"The database schema was not changed: {error}") from None
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE:
            raise DatabaseInUse(
                "The database schema was not changed further: another transaction holds one of its tables. End it (see "
                "pg_stat_activity), or give it more time with UNPAUSE_LOCK_TIMEOUT_SECONDS, and try again"
            ) from None
        raise InvalidSetting(f"database_url: the database cannot be used: {error.orig}") from None


def _tree() -> ScriptDirectory:
    return ScriptDirectory(str(migrations_folder()))


def _config(database_url: str, report: Report | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    config.attributes.update(database_url=database_url, report=report)
    return config
