"""Reads a conversation as a request to it finds it: its newest run, and the one whose requirements it names."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from unpause.domain.events import EventSelection, EventType
from unpause.domain.paging import Page
from unpause.domain.runs import RunFilter, RunRef, RunStatus
from unpause.domain.storable import refuse_unstorable
from unpause.errors import IdempotencyMismatch
from unpause.services.commands import Accepted
from unpause.services.views import listed_view_of
from unpause.store.events import find_run_of_pause, find_segment_end, list_chosen_events
from unpause.store.idempotency import find_request
from unpause.store.inbox import find_request as find_inbox_request
from unpause.store.requirements import list_requirements
from unpause.store.run_lists import list_session_runs
from unpause.store.runs import find_by_key, find_run
from unpause.store.sessions import find_session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unpause.domain.idempotency import RequestKey
    from unpause.domain.principal import Principal
    from unpause.domain.requirements import Requirement
    from unpause.domain.runs import Run, RunView
    from unpause.domain.sessions import Session
    from unpause.store.engine.database import Connection, Database
    from unpause.store.idempotency import EarlierRequest

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_MAX_PAUSES = 1000


@dataclass(frozen=True, slots=True)
class ThreadQuery:
    """Which conversation with which agent.

    ``named`` are ids of requirements, or of pauses without any; ``answered`` are ids of calls of the newest run.
    """

    session_id: str
    agent_id: str
    named: tuple[str, ...] = ()
    answered: tuple[str, ...] = ()

    @property
    def is_answer(self) -> bool:
        """Whether it comes with answers, which may have been given before."""
        return bool(self.named or self.answered)


@dataclass(frozen=True, slots=True)
class Thread:
    """A conversation with one agent.

    ``earlier`` is what the same request did before, if anything; then nothing else is read. ``newest`` is the newest
    run of the agent in the session. ``run`` is the one that the named requirements belong to, or else the newest;
    ``requirements`` are all that it ever waited for. ``ended_after`` has the number of the last event before the end
    of each pause of that run, by the pause's id.
    """

    earlier: Accepted | None = None
    newest: Run | None = None
    run: Run | None = None
    requirements: tuple[Requirement, ...] = ()
    ended_after: Mapping[str, int] = field(default_factory=dict)

    @property
    def present(self) -> tuple[Requirement, ...]:
        """What the run's present pause is about; nothing for a run that is not paused."""
        run = self.run
        if run is None or run.status is not RunStatus.PAUSED:
            return ()
        return tuple(item for item in self.requirements if item.pause_id == run.pause_id)

    @property
    def open(self) -> tuple[Requirement, ...]:
        """What the run waits for now."""
        return tuple(item for item in self.present if item.is_open)


class ThreadReader:
    """Reads conversations for clients that name them in each request."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, principal: Principal, query: ThreadQuery, request_key: RequestKey) -> Thread:
        """Return the conversation, empty where there is none that the principal sees.

        Raises IdempotencyMismatch for a key that was used with something else, InvalidInput for text that cannot be
        stored.
        """
        refuse_unstorable(query.session_id)

        def unit(connection: Connection) -> Thread:
            found = find_request(connection, request_key)
            if found is not None and not request_key.came_with(found.fingerprint):
                raise IdempotencyMismatch
            earlier = _effect_of(connection, found)
            if earlier is not None:
                return Thread(earlier)
            session = find_session(connection, principal.visibility, query.session_id)
            return Thread() if session is None else _read(connection, principal, session, query)

        return await self._database.read(unit)

    async def find_request(self, request_key: RequestKey) -> Accepted | None:
        """Return what the request with the key did to a run, whatever else came with it; None for an unknown key."""
        return await self._database.read(
            lambda connection: _effect_of(connection, find_request(connection, request_key))
        )

    async def list_runs(self, principal: Principal, session_id: str, agent_id: str, limit: int) -> list[RunView]:
        """Return the newest runs of the agent in the session, oldest first; none where the principal sees none."""

        def unit(connection: Connection) -> list[RunView]:
            session = find_session(connection, principal.visibility, session_id)
            if session is None:
                return []
            found = list_session_runs(connection, session.key, RunFilter(agent_id=agent_id), limit=limit, newest=True)
            return [listed_view_of(connection, run) for run in found]

        return await self._database.read(unit)

    async def find_segment_end(self, run: Run, after: int) -> int | None:
        """Return the number of the event that ends the segment after event number ``after``; None while that runs."""
        return await self._database.read(lambda connection: find_segment_end(connection, run.id, after))

    async def list_requirements(self, run: Run) -> tuple[Requirement, ...]:
        """Return all that the run ever waited for."""
        return tuple(await self._database.read(lambda connection: list_requirements(connection, run.id)))


def _effect_of(connection: Connection, earlier: EarlierRequest | None) -> Accepted | None:
    """Return what an earlier request did to a run; None where there was none, or its run is gone."""
    if earlier is None or earlier.run_key is None:
        return None
    run = find_by_key(connection, earlier.run_key)
    return None if run is None else Accepted(run, earlier.after)


def _read(connection: Connection, principal: Principal, session: Session, query: ThreadQuery) -> Thread:
    of_agent = RunFilter(agent_id=query.agent_id)
    newest = next(iter(list_session_runs(connection, session.key, of_agent, limit=1, newest=True)), None)
    thread = Thread(newest=newest, run=newest)
    if newest is not None and query.named:
        thread = replace(thread, run=_find_named(connection, principal, session, query) or newest)
    run = thread.run
    if run is None or (run.status.is_final and not query.is_answer):
        return thread
    if run.status is not RunStatus.PAUSED or query.is_answer:
        thread = replace(thread, ended_after=_list_pause_ends(connection, run))
    return replace(thread, requirements=tuple(list_requirements(connection, run.id)))


def _find_named(connection: Connection, principal: Principal, session: Session, query: ThreadQuery) -> Run | None:
    """Return the run of one of the named requirements, or pauses, that belongs to the agent's runs in this session.

    The paused one, if any: answers to earlier runs that come along are repetitions. Otherwise the first one.
    """
    first = None
    for name in query.named:
        if not _UUID.fullmatch(name):
            continue
        found = find_inbox_request(connection, principal.organization_id, name)
        key = find_run_of_pause(connection, session.key, name) if found is None else found.run.id
        run = None if key is None else find_run(connection, principal.visibility, RunRef(id=key))
        if run is None or run.agent_id != query.agent_id or run.session_key != session.key:
            continue
        if run.status is RunStatus.PAUSED:
            return run
        first = first or run
    return first


def _list_pause_ends(connection: Connection, run: Run) -> dict[str, int]:
    selection = EventSelection({EventType.RUN_CONTINUED: None}, Page(_MAX_PAUSES))
    events, _ = list_chosen_events(connection, run.id, selection)
    ends = {event.payload["pause_id"]: event.sequence - 1 for event in events}
    if run.status is RunStatus.CANCELLED:
        # It may have been paused then.
        selection = EventSelection({EventType.RUN_PAUSED: None}, Page(1), newest_first=True)
        for pause in list_chosen_events(connection, run.id, selection)[0]:
            ends.setdefault(pause.payload["pause_id"], run.last_sequence - 1)
    return ends
