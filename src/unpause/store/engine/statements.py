"""Statements that each request executes: compiled once, and handed to the driver without SQLAlchemy's own layers.

They are declared as every other, in SQLAlchemy Core, and convert values by the types of their columns. What SQLAlchemy
does for each execution costs several times as much as SQLite's own work; and on PostgreSQL statements whose results
nobody reads are sent together with the next one, in one round trip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from sqlalchemy.exc import DBAPIError, StatementError

from unpause.store.columns import sqlite_binder, sqlite_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sqlalchemy.engine import Connection, Dialect, RowMapping
    from sqlalchemy.sql.base import Executable

    Convert = Callable[[Any], Any]
    Values = Mapping[str, Any]

# Columns by name, whoever has read them.
Record: TypeAlias = "RowMapping | Mapping[str, Any]"

# The driver of a connection, in its `info`. Connections without one, such as those of the command line, execute all
# statements through SQLAlchemy.
DRIVER: Final = "unpause driver"


class Driver(Protocol):
    """Executes statements on one connection of the database's own driver."""

    dialect: Dialect

    def fetch(self, connection: Connection, text: str, parameters: Sequence[Any]) -> Iterable[Sequence[Any]]:
        """Execute a statement and return its rows."""
        ...

    def send(self, connection: Connection, text: str, parameters: Sequence[Sequence[Any]]) -> None:
        """Execute a statement for each of the ``parameters``, at the latest before the next one that is fetched."""
        ...

    def flush(self, connection: Connection) -> None:
        """Execute now what was sent."""
        ...


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A statement in the words of one database, and how its parameters and columns are converted."""

    text: str
    parameters: tuple[tuple[str, Convert | None], ...]
    fixed: Values
    columns: tuple[str, ...]
    readers: tuple[tuple[str, Convert], ...]

    def bind(self, parameters: Values) -> list[Any]:
        """Return the parameters by position, as the driver takes them."""
        values = {**self.fixed, **parameters} if self.fixed else parameters
        try:
            return [
                value if (value := values[name]) is None or convert is None else convert(value)
                for name, convert in self.parameters
            ]
        except Exception as error:
            # As SQLAlchemy does: a value that has no form in the database.
            raise StatementError(str(error), self.text, None, error, hide_parameters=True) from error

    def read(self, row: Sequence[Any]) -> dict[str, Any]:
        """Return the columns of a row by name."""
        record = dict(zip(self.columns, row, strict=True))
        for name, convert in self.readers:
            if (value := record[name]) is not None:
                record[name] = convert(value)
        return record


class Statement:
    """A Core statement that is executed often, with parameters by name; those without a bind are columns to set."""

    def __init__(self, statement: Executable) -> None:
        """Compile nothing yet: that depends on the database, and on which columns are set."""
        self._statement = statement
        self._compiled: dict[tuple[str, ...], _Compiled] = {}

    def all(self, connection: Connection, parameters: Values) -> list[dict[str, Any]]:
        """Execute it and return its rows."""
        driver: Driver | None = connection.info.get(DRIVER)
        if driver is None:
            return [dict(row) for row in connection.execute(self._statement, dict(parameters)).mappings()]
        compiled = self._for(driver, parameters)
        rows = driver.fetch(connection, compiled.text, compiled.bind(parameters))
        return [compiled.read(row) for row in rows]

    def first(self, connection: Connection, parameters: Values) -> dict[str, Any] | None:
        """Execute it and return its only row, or None without one."""
        rows = self.all(connection, parameters)
        return rows[0] if rows else None

    def send(self, connection: Connection, *parameters: Values) -> None:
        """Execute it for each of the ``parameters``, which name the same columns; its result is not read.

        An error of it may be raised by a later statement of the transaction, or by its commit.
        """
        driver: Driver | None = connection.info.get(DRIVER)
        if driver is None:
            connection.execute(self._statement, [dict(each) for each in parameters])
            return
        compiled = self._for(driver, parameters[0])
        driver.send(connection, compiled.text, [compiled.bind(each) for each in parameters])

    def _for(self, driver: Driver, parameters: Values) -> _Compiled:
        key = (driver.dialect.name, *parameters)
        found = self._compiled.get(key)
        if found is None:
            found = self._compiled[key] = _compile(self._statement, driver.dialect, list(parameters))
        return found


def send_text(connection: Connection, text: str) -> None:
    """Execute a statement without parameters, such as SAVEPOINT, as ``Statement.send`` does."""
    driver: Driver | None = connection.info.get(DRIVER)
    if driver is None:
        connection.exec_driver_sql(text)
    else:
        driver.send(connection, text, [()])


def flush(connection: Connection) -> None:
    """Execute now what was sent."""
    driver: Driver | None = connection.info.get(DRIVER)
    if driver is not None:
        driver.flush(connection)


def announce_statement(connection: Connection, text: str) -> None:
    """Let those who listen to SQLAlchemy's statements, such as tests, see one that does not pass through it."""
    if _has_listeners(connection):
        for listener in connection.dispatch.before_cursor_execute:
            listener(connection, None, text, (), None, False)  # noqa: FBT003 - SQLAlchemy's own signature


def announce_commit(connection: Connection) -> None:
    """Let those who listen to SQLAlchemy's commits see one that does not pass through it."""
    if _has_listeners(connection):
        for listener in connection.dispatch.commit:
            listener(connection)


def _has_listeners(connection: Connection) -> bool:
    return connection._has_events or connection.engine._has_events  # noqa: SLF001 - SQLAlchemy's own way to ask


def driver_error(connection: Connection, text: str, error: Exception, *, is_lost: bool = False) -> StatementError:
    """Return an error of the driver as SQLAlchemy raises it, without the values of the statement."""
    base: type[Exception] = connection.dialect.loaded_dbapi.Error
    return DBAPIError.instance(
        text,
        None,
        error,
        base,
        hide_parameters=True,
        connection_invalidated=is_lost,
        dialect=connection.dialect,
    )


def _compile(statement: Any, dialect: Dialect, keys: list[str]) -> _Compiled:  # noqa: ANN401 - Core has no common type
    compiled = statement.compile(dialect=dialect, column_keys=keys, for_executemany=True)
    binds = {name: bind for bind, name in compiled.bind_names.items()}
    names = tuple(compiled.positiontup or ())
    columns = list(getattr(statement, "exported_columns", ()))
    binders = {name: _binder(binds[name].type, dialect) for name in names}
    readers = {column.key: _reader(column.type, dialect) for column in columns}
    return _Compiled(
        text=compiled.string,
        parameters=tuple((name, binders[name]) for name in names),
        fixed={name: bind.effective_value for name, bind in binds.items() if not bind.required},
        columns=tuple(column.key for column in columns),
        readers=tuple((name, convert) for name, convert in readers.items() if convert is not None),
    )


def _binder(kind: Any, dialect: Dialect) -> Convert | None:  # noqa: ANN401 - a type of SQLAlchemy's
    if dialect.name == "sqlite" and (convert := sqlite_binder(kind)) is not None:
        return convert
    return _keeping_none(kind.dialect_impl(dialect).bind_processor(dialect))


def _reader(kind: Any, dialect: Dialect) -> Convert | None:  # noqa: ANN401 - a type of SQLAlchemy's
    if dialect.name == "sqlite" and (convert := sqlite_reader(kind)) is not None:
        return convert
    return _keeping_none(kind.dialect_impl(dialect).result_processor(dialect, None))


def _keeping_none(convert: Convert | None) -> Convert | None:
    """Return it; raise TypeError for one that NULL has to pass, too: half of all values are that."""
    if convert is not None and convert(None) is not None:
        raise TypeError("a column type makes something of NULL")
    return convert
