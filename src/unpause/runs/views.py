"""Reads a run with everything a client is shown of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.domain.runs import RunView
from unpause.runs.snapshots import shown_calls
from unpause.store.journal import list_messages, list_tool_calls
from unpause.store.requirements import list_requirements

if TYPE_CHECKING:
    from unpause.domain.runs import Run
    from unpause.store.database import Connection


def view_of(connection: Connection, run: Run) -> RunView:
    """Return the run with its calls, messages and requirements, as the transaction sees them."""
    requirements = tuple(list_requirements(connection, run.id))
    return RunView(
        run=run,
        tool_calls=shown_calls(list_tool_calls(connection, run.id), requirements),
        messages=tuple(list_messages(connection, run.id)),
        requirements=requirements,
    )
