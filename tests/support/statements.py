"""Sees what the caller's own work asks of the database, and nothing of what a server does by itself meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sqlalchemy import Connection, Engine, event

from unpause.store.engine.database import Database

# Set for the caller and the tasks it starts; the loops of a server were started before.
_IS_COUNTED: ContextVar[bool] = ContextVar("is_counted", default=False)


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect the statements that are executed for the caller of this block, or for a task it starts."""
    seen: list[str] = []
    with _counting(lambda _connection, statement: seen.append(statement)):
        yield seen


@contextmanager
def commits() -> Iterator[list[object]]:
    """Collect the connections that commit a transaction in which the caller of this block changed something."""
    changed: set[object] = set()
    seen: list[object] = []

    def note(connection: object, statement: str) -> None:
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            changed.add(connection)

    def commit(connection: object) -> None:
        if connection in changed:
            changed.remove(connection)
            seen.append(connection)

    event.listen(Engine, "commit", commit)
    try:
        with _counting(note):
            yield seen
    finally:
        event.remove(Engine, "commit", commit)


@contextmanager
def _counting(note: Callable[[object, str], None]) -> Iterator[None]:
    """Call ``note`` with the connection and the text of each statement of units that come from this context."""
    counted: set[object] = set()
    checked = Database._checked  # noqa: SLF001 - the one place that each unit passes in the context of its caller

    async def checked_here(
        database: Database,
        seconds: object,
        work: object,
        unit: Callable[[Connection], object],
        *args: object,
        **options: object,
    ) -> object:
        def counting(connection: Connection) -> object:
            counted.add(connection)
            try:
                return unit(connection)
            finally:
                counted.discard(connection)

        mine = counting if _IS_COUNTED.get() else unit
        return await checked(database, seconds, work, mine, *args, **options)  # type: ignore[arg-type]

    def execute(connection: object, _cursor: object, statement: str, *_: object) -> None:
        if connection in counted:
            note(connection, statement)

    event.listen(Engine, "before_cursor_execute", execute)
    token = _IS_COUNTED.set(True)
    Database._checked = checked_here  # type: ignore[assignment,method-assign]  # noqa: SLF001
    try:
        yield
    finally:
        Database._checked = checked  # type: ignore[method-assign]  # noqa: SLF001
        _IS_COUNTED.reset(token)
        event.remove(Engine, "before_cursor_execute", execute)
