"""Finds runs, and reads one with all that is known about it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from unpause.domain.audit import AuditFilter
from unpause.domain.events import EventSelection, EventType
from unpause.domain.paging import Page
from unpause.domain.run_search import RunDetails
from unpause.domain.runs import RunRef
from unpause.domain.timeline import timeline_of
from unpause.errors import RunNotFound
from unpause.services.views import view_of
from unpause.store.audit import list_entries
from unpause.store.events import list_chosen_events, list_steps
from unpause.store.journal import list_inputs
from unpause.store.requirements import list_requirements
from unpause.store.run_search import list_found, search_runs
from unpause.store.runs import get_run

if TYPE_CHECKING:
    from unpause.clock import Clock
    from unpause.domain.principal import Principal
    from unpause.domain.run_search import FoundRuns, RunSearch
    from unpause.domain.runs import Image, Run
    from unpause.domain.timeline import Timeline
    from unpause.store.engine.database import Connection, Database

_SEGMENT_STEPS = dict.fromkeys(
    (EventType.RUN_STARTED, EventType.RUN_CONTINUED, *(each for each in EventType if each.ends_segment))
)
_MAX_SEGMENT_STEPS = 1000
_MAX_AUDIT_ENTRIES = 200
_MAX_STEPS = 5000


class RunFinder:
    """Reads runs for people: what the principal may see of its organization, and of the agents that its scopes name."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def search(self, principal: Principal, search: RunSearch) -> FoundRuns:
        """Return a page of runs, newest first."""
        return await self._database.read(
            lambda connection: search_runs(connection, principal.visibility, principal.visible_agents, search)
        )

    async def get_details(self, principal: Principal, run_id: str) -> RunDetails:
        """Return the run with all that belongs to it; raise RunNotFound."""

        def unit(connection: Connection) -> RunDetails:
            run = _get(connection, principal, run_id)
            steps = EventSelection(_SEGMENT_STEPS, Page(_MAX_SEGMENT_STEPS))
            audit = None
            if principal.is_admin:
                audit, _ = list_entries(
                    connection, run.organization_id, AuditFilter(run.run_id), Page(_MAX_AUDIT_ENTRIES)
                )
            return RunDetails(
                found=list_found(connection, [run.id])[0],
                view=view_of(connection, run),
                steps=list_chosen_events(connection, run.id, steps)[0],
                audit=audit,
            )

        return await self._database.read(unit)

    async def get_timeline(self, principal: Principal, run_id: str) -> Timeline:
        """Return what happened in the run so far; raise RunNotFound."""
        now = self._clock.now()

        def unit(connection: Connection) -> Timeline:
            run = _get(connection, principal, run_id)
            events = list_steps(connection, run.id, _MAX_STEPS + 1)
            images = {each.position: len(each.images) for each in list_inputs(connection, run.id)}
            timeline = timeline_of(run, events[:_MAX_STEPS], list_requirements(connection, run.id), images, now)
            return replace(timeline, is_truncated=len(events) > _MAX_STEPS)

        return await self._database.read(unit)

    async def get_image(self, principal: Principal, run_id: str, prompt: int, number: int) -> Image | None:
        """Return a picture of one of the run's prompts, None where there is none; raise RunNotFound."""

        def unit(connection: Connection) -> Image | None:
            run = _get(connection, principal, run_id)
            images = next((each.images for each in list_inputs(connection, run.id) if each.position == prompt), ())
            return images[number] if number < len(images) else None

        return await self._database.read(unit)


def _get(connection: Connection, principal: Principal, run_id: str) -> Run:
    run = get_run(connection, principal.visibility, RunRef(run_id=run_id))
    agents = principal.visible_agents
    if agents is not None and run.agent_id not in agents:
        raise RunNotFound
    return run
