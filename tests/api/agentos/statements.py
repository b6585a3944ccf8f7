"""Sees the statements that the database is asked to execute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect the statements that are executed."""
    seen: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: Any) -> None:  # noqa: ANN401 - SQLAlchemy's hook
        seen.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


@contextmanager
def commits() -> Iterator[list[object]]:
    """Collect the connections that commit a transaction in which something was changed."""
    changed: set[object] = set()
    seen: list[object] = []

    def note(connection: object, _cursor: object, statement: str, *_: Any) -> None:  # noqa: ANN401 - SQLAlchemy's hook
        if statement.startswith(("INSERT", "UPDATE", "DELETE")):
            changed.add(connection)

    def commit(connection: object) -> None:
        if connection in changed:
            changed.remove(connection)
            seen.append(connection)

    event.listen(Engine, "before_cursor_execute", note)
    event.listen(Engine, "commit", commit)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)
        event.remove(Engine, "commit", commit)
