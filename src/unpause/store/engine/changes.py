"""Collects what a unit changes, to be reported once its transaction is committed, and only then."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from unpause.domain.changes import RunChange

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.engine import Connection

    from unpause.domain.changes import Outbox
    from unpause.domain.runs import Run
    from unpause.domain.transitions import Trigger

T = TypeVar("T")

# In the `info` of a connection, while a unit of a server runs on it.
_CHANGES: Final = "unpause changes"


@dataclass(slots=True)
class Changes:
    """What a transaction did to ``runs``, and the ``outboxes`` that it added messages to."""

    runs: list[RunChange] = field(default_factory=list)
    outboxes: set[Outbox] = field(default_factory=set)


def note_run(connection: Connection, run: Run, trigger: Trigger | None = None, *, claimed: bool = False) -> Run:
    """Have the run's change be reported when the transaction is committed; return the run."""
    changes: Changes | None = connection.info.get(_CHANGES)
    if changes is not None:
        changes.runs.append(RunChange(run, trigger, claimed))
    return run


def note_message(connection: Connection, outbox: Outbox) -> None:
    """Have whatever delivers the messages of the outbox look for this one when the transaction is committed."""
    changes: Changes | None = connection.info.get(_CHANGES)
    if changes is not None:
        changes.outboxes.add(outbox)


def note_details(connection: Connection, **details: Any) -> None:  # noqa: ANN401 - for a line of the log
    """Add these to the last change that was noted."""
    changes: Changes | None = connection.info.get(_CHANGES)
    if changes is not None and changes.runs:
        changes.runs[-1].details.update(details)


def noting(unit: Callable[[Connection], T]) -> Callable[[Connection], tuple[T, Changes]]:
    """Return the unit with what it changed in its last try."""

    def noted(connection: Connection) -> tuple[T, Changes]:
        connection.info[_CHANGES] = changes = Changes()
        return unit(connection), changes

    return noted
