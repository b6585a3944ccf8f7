"""Rows that are added where there is none of that key: in one statement, so that two who do it at once both get one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Column, Connection, Table
    from sqlalchemy.sql.dml import ReturningInsert


class Upsert:
    """An INSERT that adds a row, or where its key is taken changes nothing but the ``touched`` columns.

    Built once, for both kinds of databases: SQLAlchemy has a construct for each.
    """

    def __init__(self, table: Table, key: Sequence[Column[Any]], touched: Sequence[str] = ()) -> None:
        self._statements = {name: _statement(insert(table), table, key, touched) for name, insert in _INSERTS.items()}

    def on(self, connection: Connection) -> ReturningInsert[Any]:
        """Return the statement for the connection's database.

        It returns the row that is there now; none where the key was taken and there is nothing to touch. A row that
        it returns is locked until the transaction ends.
        """
        return self._statements[connection.dialect.name]


_INSERTS: dict[str, Callable[[Table], Any]] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


def _statement(insert: Any, table: Table, key: Sequence[Column[Any]], touched: Sequence[str]) -> ReturningInsert[Any]:  # noqa: ANN401 - one of two constructs
    added = (
        insert.on_conflict_do_update(index_elements=key, set_={name: insert.excluded[name] for name in touched})
        if touched
        else insert.on_conflict_do_nothing(index_elements=key)
    )
    returning: ReturningInsert[Any] = added.returning(*table.c)
    return returning
