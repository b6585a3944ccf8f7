"""The present by the database's clock, in SQL: nodes whose own clocks differ, or step, agree on it.

One process owns a SQLite file, so there the moment is that process's own, given as a parameter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Interval, bindparam, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from unpause.store.columns import Instant

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sqlalchemy.engine import Connection
    from sqlalchemy.sql.compiler import SQLCompiler


class _ByDatabase(FunctionElement[Any]):
    """Two expressions, the first for PostgreSQL and the second for SQLite."""

    inherit_cache = True
    name = "by_database"
    type = Instant()


@compiles(_ByDatabase)
def _compile(element: _ByDatabase, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    postgres, sqlite = element.clauses
    chosen = sqlite if compiler.dialect.name == "sqlite" else postgres
    return compiler.process(chosen.self_group(), **options)


def database_now(parameter: str = "now") -> ColumnElement[datetime]:
    """Return the present, to compare a column with; on SQLite the parameter of that name."""
    # A query of its own: it is asked once for a statement, and an index can be searched for its result.
    return _ByDatabase(
        select(func.clock_timestamp()).scalar_subquery(), bindparam(parameter, type_=Instant, required=True)
    )


def database_now_or_before(parameter: str) -> ColumnElement[datetime]:
    """Return the moment of the parameter, but the present where it is not there yet: nothing waits for a slow clock."""
    moment = bindparam(parameter, type_=Instant, required=True)
    return _ByDatabase(func.least(moment, func.clock_timestamp()), moment)


_PRESENT = select(database_now())


def read_now(connection: Connection, own: datetime) -> datetime:
    """Return the present by the database's clock; ``own`` is that of this process, for SQLite.

    Where an index is searched for few of very many rows, PostgreSQL plans well only with a value that it knows before.
    """
    found: datetime = connection.execute(_PRESENT, {"now": own}).scalar_one()
    return found


def database_later(interval: str, moment: str) -> ColumnElement[datetime]:
    """Return the present and the parameter ``interval`` later; on SQLite the parameter ``moment``."""
    present = func.clock_timestamp(type_=Instant)
    return _ByDatabase(present + bindparam(interval, type_=Interval), bindparam(moment, type_=Instant, required=True))


def lease_parameters(now: datetime, lease: timedelta | None) -> dict[str, Any]:
    """Return the parameters of a statement that renews leases: ``now`` is this process's clock, for SQLite."""
    if lease is None:
        return dict.fromkeys(("lease", "half_lease", "lease_ends", "lease_half_over"))
    half = lease / 2
    return {"lease": lease, "half_lease": half, "lease_ends": now + lease, "lease_half_over": now + half}
