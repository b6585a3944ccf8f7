"""Collects what a unit does to runs, to be reported once its transaction is committed, and only then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from unpause.domain.changes import RunChange

T = TypeVar("T")

# In the `info` of a connection, while a unit of a server runs on it.
_CHANGES: Final = "unpause changes"


def note_change(connection: Connection, change: RunChange) -> None:
    """Have the change be reported when the transaction is committed."""
    changes = connection.info.get(_CHANGES)
    if changes is not None:
        changes.append(change)


def note_details(connection: Connection, **details: Any) -> None:  # noqa: ANN401 - for a line of the log
    """Add these to the last change that was noted."""
    changes: list[RunChange] = connection.info.get(_CHANGES) or []
    if changes:
        changes[-1].details.update(details)


def noting(unit: Callable[[Connection], T]) -> Callable[[Connection], tuple[T, list[RunChange]]]:
    """Return the unit with what it did to runs in its last try."""

    def noted(connection: Connection) -> tuple[T, list[RunChange]]:
        changes: list[RunChange] = []
        connection.info[_CHANGES] = changes
        return unit(connection), changes

    return noted
