"""Collects what a unit does to runs, to be reported once its transaction is committed, and only then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from unpause.domain.changes import RunChange

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from unpause.domain.runs import Run
    from unpause.domain.transitions import Trigger

T = TypeVar("T")

# In the `info` of a connection, while a unit of a server runs on it.
_CHANGES: Final = "unpause changes"


def note_run(connection: Connection, run: Run, trigger: Trigger | None = None, *, claimed: bool = False) -> Run:
    """Have the run's change be reported when the transaction is committed; return the run."""
    changes = connection.info.get(_CHANGES)
    if changes is not None:
        changes.append(RunChange(run, trigger, claimed))
    return run


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
