"""Lists, reads, changes and removes sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unpause.domain.audit import AuditAction, entry_by
from unpause.domain.runs import Run, RunFilter, RunRef, RunStatus, RunView
from unpause.domain.sessions import NewSession, Session, SessionFilter
from unpause.domain.storable import refuse_unstorable
from unpause.errors import Conflict, RunNotFound, SessionNotFound, busy_with
from unpause.services.views import bare_view_of, listed_view_of, view_of
from unpause.store.audit import add_entries
from unpause.store.run_lists import list_session_runs
from unpause.store.runs import find_run
from unpause.store.sessions import add_session, change_session, delete_session, find_session, list_sessions, lock_runs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from unpause.domain.paging import Page
    from unpause.domain.principal import Principal
    from unpause.services.context import ServiceContext
    from unpause.store.engine.database import Connection


@dataclass(frozen=True, slots=True)
class SessionRunsQuery:
    """Which runs of a session to return: a page of those that pass the filter.

    Pages count from the oldest run, or with ``newest`` from the newest.
    """

    filters: RunFilter
    page: Page
    newest: bool = False


class SessionService:
    """The use cases of sessions."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def list_sessions(
        self, principal: Principal, filters: SessionFilter, page: Page
    ) -> tuple[list[Session], int]:
        """Return one page of sessions, and how many there are in all."""
        return await self._context.database.read(
            lambda connection: list_sessions(connection, principal.visibility, filters, page)
        )

    async def get_session(self, principal: Principal, session_id: str) -> Session:
        """Return the session; raise SessionNotFound."""
        return await self._context.database.read(lambda connection: _get(connection, principal, session_id))

    async def create_session(self, principal: Principal, new: NewSession) -> Session:
        """Create a session; raise Conflict for an id that exists, InvalidInput for text that cannot be stored."""
        refuse_unstorable(new)
        self._context.limits.refuse_json({"session_state": new.state, "metadata": new.metadata})
        now = self._context.clock.now()

        def unit(connection: Connection) -> Session:
            session = add_session(connection, principal, new, now)
            if session is None:
                # Of any user: an id is unique in its organization.
                raise Conflict(f"Session {new.session_id} exists already")
            return session

        return await self._context.database.write(unit)

    async def change_session(self, principal: Principal, session_id: str, changes: Mapping[str, Any]) -> Session:
        """Change name, state or metadata; raise SessionNotFound, or InvalidInput for text that cannot be stored."""
        refuse_unstorable(changes)
        self._context.limits.refuse_json(changes)
        now = self._context.clock.now()

        def unit(connection: Connection) -> Session:
            session = _get(connection, principal, session_id)
            changed = change_session(connection, session, {**changes, "updated_at": now})
            if changed is None:
                raise _not_found(session_id)
            # Not the values: what is in a state is the user's.
            details = {"fields": sorted(changes)}
            done = entry_by(principal, AuditAction.SESSION_CHANGED, now, subject=session_id, details=details)
            add_entries(connection, [done])
            return changed

        with busy_with(f"Session {session_id}"):
            return await self._context.database.write(unit)

    async def delete_session(self, principal: Principal, session_id: str) -> None:
        """Delete the session and its runs; one that does not exist counts as deleted.

        Raises Conflict while one of its runs is PENDING or RUNNING: its tool calls would be lost from the record, and
        its followers would wait for an end that never comes.
        """
        now = self._context.clock.now()

        def unit(connection: Connection) -> bool:
            # A request that creates or continues a run of it at this moment comes first, or finds it gone.
            session = _find(connection, principal, session_id, locked=True)
            if session is None:
                return False
            statuses = lock_runs(connection, session)
            if statuses & {RunStatus.PENDING, RunStatus.RUNNING}:
                raise Conflict(f"Session {session_id} has a run that is running: cancel it first")
            details, deleted = {"session_id": session_id}, AuditAction.RUN_DELETED
            gone = [
                entry_by(principal, deleted, now, run_id=run_id, subject=run_id, details=details)
                for run_id in delete_session(connection, session)
            ]
            done = entry_by(principal, AuditAction.SESSION_DELETED, now, subject=session_id)
            add_entries(connection, [*gone, done])
            return RunStatus.PAUSED in statuses

        def committed(waited: bool) -> None:  # noqa: FBT001 - what the unit returns
            if waited:
                self._context.bus.requests_deleted(principal.organization_id)

        with busy_with(f"Session {session_id}"):
            await self._context.database.write(unit, committed)

    async def list_runs(self, principal: Principal, session_id: str, query: SessionRunsQuery) -> list[RunView]:
        """Return a page of the session's runs, oldest first; raise SessionNotFound."""
        return await self._context.database.read(
            lambda connection: [
                listed_view_of(connection, run) for run in _runs(connection, principal, session_id, query)
            ]
        )

    async def list_bare_runs(self, principal: Principal, session_id: str, query: SessionRunsQuery) -> list[RunView]:
        """Return the same page as ``list_runs``, without calls and messages."""
        return await self._context.database.read(
            lambda connection: [
                bare_view_of(connection, run) for run in _runs(connection, principal, session_id, query)
            ]
        )

    async def get_run(self, principal: Principal, session_id: str, run_id: str) -> RunView:
        """Return one run of the session; raise SessionNotFound or RunNotFound."""

        def unit(connection: Connection) -> RunView:
            session = _get(connection, principal, session_id)
            run = find_run(connection, principal.visibility, RunRef(run_id=run_id))
            if run is None or run.session_key != session.key:
                raise RunNotFound(f"Run with ID {run_id} not found in session {session_id}")
            return view_of(connection, run)

        return await self._context.database.read(unit)

    async def list_chat(self, principal: Principal, session_id: str, last_runs: int) -> tuple[Session, list[RunView]]:
        """Return the session and its last runs, oldest first; raise SessionNotFound."""

        def unit(connection: Connection) -> tuple[Session, list[RunView]]:
            session = _get(connection, principal, session_id)
            found = list_session_runs(connection, session.key, limit=last_runs, newest=True)
            return session, [listed_view_of(connection, run) for run in found]

        return await self._context.database.read(unit)


def _runs(connection: Connection, principal: Principal, session_id: str, query: SessionRunsQuery) -> list[Run]:
    key, page = _get(connection, principal, session_id).key, query.page
    return list_session_runs(connection, key, query.filters, limit=page.limit, offset=page.offset, newest=query.newest)


def _get(connection: Connection, principal: Principal, session_id: str) -> Session:
    session = _find(connection, principal, session_id)
    if session is None:
        raise _not_found(session_id)
    return session


def _not_found(session_id: str) -> SessionNotFound:
    return SessionNotFound(f"Session with ID {session_id} not found")


def _find(connection: Connection, principal: Principal, session_id: str, *, locked: bool = False) -> Session | None:
    session = find_session(connection, principal.visibility, session_id, locked=locked)
    if session is None or principal.user_id in {None, session.user_id}:
        return session
    # To one user another user's session is not there; one of nobody is there for everybody that has a name.
    return session if session.user_id is None and principal.user_id else None
