"""What the two databases express in different ways: the current time, upserts, and whether processes share them.

The current time is the database's: nodes whose own clocks differ, or step, agree on it. One process owns a SQLite file,
so there it is the time of that process, passed as a parameter.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import ColumnElement, Interval, UnaryExpression, bindparam, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql import operators
from sqlalchemy.sql.functions import FunctionElement

from unpause.store.columns import Instant
from unpause.store.engine.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy import Column, Table
    from sqlalchemy.engine import Connection
    from sqlalchemy.sql.base import ReadOnlyColumnCollection
    from sqlalchemy.sql.compiler import SQLCompiler
    from sqlalchemy.sql.selectable import TableValuedAlias

T = TypeVar("T")


class _ByDatabase(FunctionElement[Any]):
    """Two expressions, the first for PostgreSQL and the second for SQLite."""

    inherit_cache = True
    name = "by_database"


@compiles(_ByDatabase)
def _compile(element: _ByDatabase, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's signature
    for_postgresql, for_sqlite = element.clauses
    chosen = for_sqlite if compiler.dialect.name == "sqlite" else for_postgresql
    return compiler.process(chosen.self_group(), **options)


def by_database(for_postgresql: ColumnElement[T], for_sqlite: ColumnElement[T]) -> ColumnElement[T]:
    """Return an expression for which each of the two databases has a form of its own."""
    found = _ByDatabase(for_postgresql, for_sqlite)
    found.type = for_sqlite.type
    return found


def unindexed(column: Column[T]) -> ColumnElement[T]:
    """Return the column for a condition that is no reason to choose an index, where another condition is a better one.

    SQLite has no statistics here: it takes a column that is compared with a value for selective, such as that of the
    organization, and reads all rows of it. PostgreSQL knows better, and gets the column as it is.
    """
    return by_database(column, UnaryExpression(column, operator=operators.custom_op("+"), type_=column.type))


class _JsonTexts(FunctionElement[str]):
    """The texts of an array in JSON, a row each."""

    inherit_cache = True
    name = "json_texts"


@compiles(_JsonTexts)
def _compile_texts(element: _JsonTexts, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401 - SQLAlchemy's signature
    function = "json_each" if compiler.dialect.name == "sqlite" else "json_array_elements_text"
    return f"{function}{compiler.process(element.clause_expr, **options)}"


def json_texts(array: ColumnElement[Any]) -> TableValuedAlias:
    """Return the texts of an array in JSON as rows with a ``value``, which may be null where there is no array."""
    return _JsonTexts(array).table_valued("value")


def database_now(parameter: str = "now") -> ColumnElement[datetime]:
    """Return the current time, to compare a column with; on SQLite the parameter of that name."""
    # A query of its own: it is evaluated once for a statement, and an index can be searched for its result.
    return by_database(
        select(func.clock_timestamp()).scalar_subquery(), bindparam(parameter, type_=Instant, required=True)
    )


def database_now_or_before(parameter: str) -> ColumnElement[datetime]:
    """Return the time in the parameter, or the current time where that is earlier: nothing waits for a fast clock."""
    moment = bindparam(parameter, type_=Instant, required=True)
    return by_database(func.least(moment, func.clock_timestamp()), moment)


_NOW = Statement(select(database_now().label("now")))


def first_due(moments: Column[Any]) -> Statement:
    """Return the query for the earliest of these moments: it reads the first entry of their index, or none."""
    first, now = func.min(moments, type_=Instant).label("first"), database_now().label("now")
    # The condition is that of a partial index, which SQLite uses only where the query repeats it.
    return Statement(select(first, now).where(moments.is_not(None)))


def until_first(connection: Connection, query: Statement, own: datetime) -> timedelta | None:
    """Return how long until what ``first_due`` finds, which may be over; None where there is nothing.

    ``own`` is the time of this process, for SQLite.
    """
    [found] = query.all(connection, {"now": own})
    return None if found["first"] is None else found["first"] - found["now"]


def read_now(connection: Connection, own: datetime) -> datetime:
    """Return the current time by the database's clock; ``own`` is that of this process, for SQLite.

    Where an index is searched for few of very many rows, PostgreSQL plans well only with a value that it knows in
    advance.
    """
    [row] = _NOW.all(connection, {"now": own})
    found: datetime = row["now"]
    return found


def database_later(interval: str, moment: str) -> ColumnElement[datetime]:
    """Return the current time plus the parameter ``interval``; on SQLite the parameter ``moment``."""
    now = func.clock_timestamp(type_=Instant)
    return by_database(now + bindparam(interval, type_=Interval), bindparam(moment, type_=Instant, required=True))


def lease_parameters(now: datetime, lease: timedelta | None) -> dict[str, Any]:
    """Return the parameters of a statement that renews leases: ``now`` is this process's clock, for SQLite."""
    if lease is None:
        return dict.fromkeys(("lease", "half_lease", "lease_ends", "lease_half_over"))
    half = lease / 2
    return {"lease": lease, "half_lease": half, "lease_ends": now + lease, "lease_half_over": now + half}


def is_shared(connection: Connection) -> bool:
    """Return whether other processes may use the database at the same time."""
    return connection.dialect.name != "sqlite"


class Upsert:
    """An INSERT that adds a row, or where its key is taken makes ``changes`` to the row that is there, or none.

    In one statement: of two that add the same key at once, both get the row. Built once for each database that is used:
    SQLAlchemy has a construct for each, and PostgreSQL's takes time and memory to load. ``changes`` receives the row
    that was to be added; ``values`` are expressions for columns that are not passed as parameters.
    """

    def __init__(
        self,
        table: Table,
        key: Sequence[Column[Any]],
        changes: Callable[[ReadOnlyColumnCollection[str, Any]], Mapping[str, Any]] | None = None,
        values: Mapping[str, Any] | None = None,
        returning: Sequence[ColumnElement[Any]] = (),
    ) -> None:
        self._table = table
        self._key = key
        self._changes = changes
        self._values = values
        self._returning = returning or table.c
        self._statements: dict[str, Statement] = {}

    def on(self, connection: Connection) -> Statement:
        """Return the statement for the connection's database.

        It returns the row that is there now; none where the key was taken and nothing is changed. A row that it returns
        is locked until the transaction ends.
        """
        name = connection.dialect.name
        found = self._statements.get(name)
        if found is None:
            found = self._statements[name] = self._statement(import_module(f"sqlalchemy.dialects.{name}"))
        return found

    def _statement(self, dialect: Any) -> Statement:  # noqa: ANN401 - the two have no common type
        insert = dialect.insert(self._table)
        if self._values:
            insert = insert.values(self._values)
        upsert = (
            insert.on_conflict_do_update(index_elements=self._key, set_=self._changes(insert.excluded))
            if self._changes
            else insert.on_conflict_do_nothing(index_elements=self._key)
        )
        return Statement(upsert.returning(*self._returning))
