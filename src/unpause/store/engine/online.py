"""Changes of big tables while nodes use them: what migrations call instead of Alembic's own operations.

On PostgreSQL an index is created without a lock that stops writers, and rows are filled in batches, each committed by
itself. So what such a migration does before it is interrupted stays, and running it again goes on from there: it may
change the schema only by these functions. On SQLite, where one process has the file, a migration is one transaction.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from alembic import op
from sqlalchemy import bindparam, inspect, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Column, TextClause
    from sqlalchemy.engine import Connection

_BATCH: Final = 5_000
# What an interrupted CREATE INDEX CONCURRENTLY leaves: it costs every write, and no query uses it.
_IS_INVALID: Final = text(
    "SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass(:name) AND NOT indisvalid)"
)


def create_index(
    name: str, table: str, columns: Sequence[str], *, rows: TextClause | None = None, unique: bool = False
) -> None:
    """Create an index, of some ``rows`` or all, while others write; one that is there stays if it is whole.

    It waits for all transactions that began before, however long they last, and nobody waits for it.
    """
    partial: dict[str, Any] = {"postgresql_where": rows, "sqlite_where": rows}
    with _committing() as connection:
        if _is_sqlite(connection):
            op.create_index(name, table, columns, unique=unique, **partial)
            return
        if connection.execute(_IS_INVALID, {"name": f'"{name}"'}).scalar():
            op.drop_index(name, table, postgresql_concurrently=True)
        op.create_index(
            name, table, columns, unique=unique, if_not_exists=True, postgresql_concurrently=True, **partial
        )


def drop_index(name: str, table: str) -> None:
    """Drop an index while others use the table; one that is gone is no error."""
    with _committing() as connection:
        if _is_sqlite(connection):
            op.drop_index(name, table)
        else:
            op.drop_index(name, table, if_exists=True, postgresql_concurrently=True)


def add_column(table: str, column: Column[Any]) -> None:
    """Add a column unless an interrupted run has; NULL in it, or a constant default, rewrites no row."""
    if column.name not in {one["name"] for one in inspect(op.get_bind()).get_columns(table)}:
        op.add_column(table, column)


def fill(table: str, values: str, rows: str, *, key: str = "id", batch: int = _BATCH) -> None:
    """Run ``UPDATE table SET values WHERE rows`` for a range of the integer ``key`` at a time.

    ``rows`` must leave out those that are filled. The names and expressions are SQL of the migration's own.
    """
    with _committing() as connection:
        first, last = connection.execute(text(f"SELECT min({key}), max({key}) FROM {table} WHERE {rows}")).one()  # noqa: S608 - the migration's own SQL
        if first is None:
            return
        update = text(
            f"UPDATE {table} SET {values} WHERE {key} BETWEEN :first AND :last AND ({rows})"  # noqa: S608 - the migration's own SQL
        ).bindparams(bindparam("first"), bindparam("last"))
        for start in range(first, last + 1, batch):
            connection.execute(update, {"first": start, "last": start + batch - 1})


@contextmanager
def _committing() -> Iterator[Connection]:
    """Yield a connection on which each statement is committed by itself; on SQLite the migration's transaction."""
    if _is_sqlite(op.get_bind()):
        yield op.get_bind()
        return
    # It commits what came before in this migration.
    with op.get_context().autocommit_block():
        yield op.get_bind()


def _is_sqlite(connection: Connection) -> bool:
    return connection.dialect.name == "sqlite"
