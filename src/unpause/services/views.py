"""Reads runs as clients are shown them: whole, or for a list."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from unpause.domain.event_payloads import shown_calls
from unpause.domain.runs import RunStatus, RunView
from unpause.errors import RunUnreadable
from unpause.store.journal import list_messages, list_tool_calls
from unpause.store.requirements import list_requirements

if TYPE_CHECKING:
    from collections.abc import Callable

    from unpause.domain.runs import Run
    from unpause.store.engine.database import Connection

_log = structlog.get_logger(__name__)


def view_of(connection: Connection, run: Run) -> RunView:
    """Return the run with its calls, messages and requirements, as the transaction sees them; raise RunUnreadable."""
    requirements = tuple(list_requirements(connection, run.id))
    return RunView(
        run=run,
        tool_calls=shown_calls(list_tool_calls(connection, run.id), requirements),
        messages=tuple(list_messages(connection, run.id)),
        requirements=requirements,
    )


def listed_view_of(connection: Connection, run: Run) -> RunView:
    """Do the same for a list, where a run that cannot be read has only its own row."""
    return _readable(view_of, connection, run)


def bare_view_of(connection: Connection, run: Run) -> RunView:
    """Return the run for a list without calls and messages; with requirements where it is paused without content."""
    if run.status is not RunStatus.PAUSED or run.content is not None:
        return RunView(run)
    return _readable(_with_requirements, connection, run)


def _with_requirements(connection: Connection, run: Run) -> RunView:
    return RunView(run, requirements=tuple(list_requirements(connection, run.id)))


def _readable(read: Callable[[Connection, Run], RunView], connection: Connection, run: Run) -> RunView:
    try:
        return read(connection, run)
    except RunUnreadable as error:
        _log.warning("run in a list unreadable", run_id=run.run_id, error=type(error.__cause__).__name__)
        return RunView(run)
