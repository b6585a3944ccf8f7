"""Lists the runs of an organization, and the log of one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from unpause.domain.paging import Slice
from unpause.store.events import list_chosen_events
from unpause.store.runs import RunKey, RunSelection, get_run, list_runs
from unpause.store.users import find_first_user, find_user

if TYPE_CHECKING:
    from unpause.domain.events import Event
    from unpause.domain.principal import Principal
    from unpause.domain.runs import Run
    from unpause.store.engine.database import Connection, Database
    from unpause.store.events import EventSelection


@dataclass(frozen=True, slots=True)
class ListRuns:
    """Which runs are wanted; None means any. ``user_key`` is the id of a user."""

    user_key: int | None = None
    source_type: str | None = None
    part: Slice = field(default_factory=Slice)


@dataclass(frozen=True, slots=True)
class RunLog:
    """A run and a part of its log, of one moment; ``total`` counts the whole log."""

    run: Run
    events: list[Event]
    total: int


class RunLists:
    """Reads what there is to list, always of the one who asks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list_runs(self, principal: Principal, wanted: ListRuns) -> tuple[list[Run], int]:
        """Return a part of the organization's runs, newest first, and how many there are in all.

        Runs belong to the user whose name they carry. Those without one belong to the organization's first user where
        nobody says who asks. A user that does not exist has none.
        """

        def unit(connection: Connection) -> tuple[list[Run], int]:
            if wanted.user_key is None:
                selection = RunSelection(wanted.source_type)
            else:
                user = find_user(connection, principal.organization_id, wanted.user_key)
                if user is None:
                    return [], 0
                everybody = principal.user_id is None and user == find_first_user(connection, user.organization_id)
                selection = RunSelection(wanted.source_type, user.name, or_without_user=everybody)
            return list_runs(connection, principal.sight, selection, wanted.part)

        return await self._database.read(unit)

    async def read_log(self, principal: Principal, run_key: int, wanted: EventSelection) -> RunLog:
        """Return the run with a part of its log; raise RunNotFound."""

        def unit(connection: Connection) -> RunLog:
            run = get_run(connection, RunKey(principal.sight, id=run_key))
            return RunLog(run, *list_chosen_events(connection, run.id, wanted))

        return await self._database.read(unit)
