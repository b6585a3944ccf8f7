"""Lists the runs of an organization, and the log of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from unpause.domain.paging import Page
from unpause.domain.runs import EndReason, RunRef, RunSelection, RunStatus
from unpause.store.events import list_chosen_events
from unpause.store.run_lists import list_runs
from unpause.store.runs import get_run
from unpause.store.users import find_first_user, find_user

if TYPE_CHECKING:
    from unpause.domain.events import Event, EventSelection
    from unpause.domain.principal import Principal
    from unpause.domain.runs import Run
    from unpause.store.engine.database import Connection, Database


@dataclass(frozen=True, slots=True)
class ListRuns:
    """Which runs to list; None means any. ``user_key`` is the id of a user; ``ends`` are those of ``RunSelection``."""

    user_key: int | None = None
    source_type: str | None = None
    ends: frozenset[tuple[RunStatus, EndReason | None]] | None = None
    page: Page = field(default_factory=Page)


@dataclass(frozen=True, slots=True)
class RunLog:
    """A run and a page of its log, read at the same moment; ``total`` counts the whole log."""

    run: Run
    events: list[Event]
    total: int


class RunLists:
    """Reads lists, always those of the principal's organization."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_runs(self, principal: Principal, query: ListRuns) -> tuple[list[Run], int]:
        """Return a page of the organization's runs, newest first, and how many there are in all.

        Runs belong to the user whose name they carry. Those without one belong to the organization's first user where
        the principal has no user. A user that does not exist has none.
        """

        def unit(connection: Connection) -> tuple[list[Run], int]:
            if query.user_key is None:
                selection = RunSelection(query.source_type, ends=query.ends)
            else:
                user = find_user(connection, principal.organization_id, query.user_key)
                if user is None:
                    return [], 0
                everybody = principal.user_id is None and user == find_first_user(connection, user.organization_id)
                selection = RunSelection(query.source_type, user.name, ends=query.ends, or_without_user=everybody)
            return list_runs(connection, principal.visibility, selection, query.page)

        return await self._database.read(unit)

    async def read_log(self, principal: Principal, run_key: int, selection: EventSelection) -> RunLog:
        """Return the run with a page of its log; raise RunNotFound."""

        def unit(connection: Connection) -> RunLog:
            run = get_run(connection, principal.visibility, RunRef(id=run_key))
            return RunLog(run, *list_chosen_events(connection, run.id, selection))

        return await self._database.read(unit)
