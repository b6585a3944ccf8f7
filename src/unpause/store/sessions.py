"""The conversations that runs belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, bindparam, case, cast, delete, func, select, update

from unpause.domain.runs import RunStatus
from unpause.domain.sessions import Session, SessionFilter
from unpause.errors import RateLimited, SessionNotFound
from unpause.store.engine.dialects import Upsert
from unpause.store.engine.statements import Statement
from unpause.store.journal import read_message
from unpause.store.large_results import unfold
from unpause.store.paging import paged
from unpause.store.run_queue import UNFINISHED
from unpause.store.tables import messages, runs, sessions
from unpause.store.unreadable import read_rows, readable
from unpause.store.users import lock_organization
from unpause.store.visibility import visible_to

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from unpause.domain.paging import Page
    from unpause.domain.principal import Principal, Visibility
    from unpause.domain.runs import Message
    from unpause.domain.sessions import NewSession
    from unpause.store.engine.statements import Record

_KEY = (sessions.c.organization_id, sessions.c.session_id)
# With the number that a limit needs: one statement less for each run.
_ENSURE = Upsert(sessions, _KEY, lambda added: {"updated_at": added.updated_at}, returning=(*sessions.c, UNFINISHED))
_ADD = Upsert(sessions, _KEY)
_COUNT_UNFINISHED = select(UNFINISHED)
# Creates of one organization that may be under way at the same time, in all processes.
_MAX_CREATES = 64
_RECENT = (
    select(runs.c.id)
    .where(
        runs.c.session_key == bindparam("key"),
        runs.c.status == RunStatus.COMPLETED.value,
        runs.c.id < bindparam("before"),
    )
    .order_by(runs.c.id.desc())
    .limit(bindparam("limit"))
)
_CONVERSATION = Statement(
    select(
        messages.c.run_key,
        messages.c.position,
        messages.c.native,
        # Nobody is shown those of earlier runs.
        case((messages.c.run_key == bindparam("before"), messages.c.entries)).label("entries"),
    )
    .where(
        messages.c.run_key.in_(
            select(_RECENT.subquery().c.id).union_all(select(cast(bindparam("before"), messages.c.run_key.type)))
        )
    )
    .order_by(messages.c.run_key, messages.c.position)
)


def ensure_session(
    connection: Connection,
    principal: Principal,
    new: NewSession,
    now: datetime,
    *,
    max_unfinished: int | None = None,
) -> Session:
    """Return the session of that id, created if the organization has none.

    It is locked until the transaction ends, so it is not deleted before what is added to it is committed.

    Raises SessionNotFound for another user's, and RateLimited where the organization has ``max_unfinished`` runs that
    are PENDING or RUNNING.
    """
    counted = {"organization": principal.organization_id, "limit": max_unfinished or 0}
    found = _ENSURE.on(connection).all(connection, {**_new_row(principal, new, now), **counted})[0]
    if max_unfinished is not None and _count_unfinished(connection, counted, found["unfinished"]) >= max_unfinished:
        reason = f"This organization has {max_unfinished} unfinished runs, as many as it may: try again later"
        raise RateLimited(1, reason)
    viewer = principal.visibility.user_id
    if viewer is not None and found["user_id"] != viewer:
        # Its history must not be read, nor added to.
        raise SessionNotFound(f"Session with ID {new.session_id} not found")
    return _session(found)


def _count_unfinished(connection: Connection, counted: Mapping[str, int], found: int) -> int:
    """Return how many there are; close to the limit no other create takes the last place at the same time."""
    if not counted["limit"] - _MAX_CREATES < found < counted["limit"]:
        return found
    lock_organization(connection, counted["organization"])
    return int(connection.execute(_COUNT_UNFINISHED, counted).scalar_one())


def add_session(connection: Connection, principal: Principal, new: NewSession, now: datetime) -> Session | None:
    """Add a session and return it; None where the organization has one of that id."""
    row = _ADD.on(connection).first(connection, _new_row(principal, new, now))
    return None if row is None else _session(row)


def _new_row(principal: Principal, new: NewSession, now: datetime) -> dict[str, Any]:
    return {
        "organization_id": principal.organization_id,
        "session_id": new.session_id,
        "agent_id": new.agent_id,
        "user_id": principal.user_id,
        "session_name": new.name,
        "session_state": new.state,
        "metadata": new.metadata,
        "created_at": now,
        "updated_at": now,
    }


def keep_state(connection: Connection, session: Session, state: dict[str, Any] | None) -> dict[str, Any] | None:
    """Store ``state`` with the session, unless it is None; return the session's state."""
    if state is None or state == session.session_state:
        return session.session_state
    connection.execute(update(sessions).where(sessions.c.id == session.key).values(session_state=state))
    return state


def find_session(
    connection: Connection, visibility: Visibility, session_id: str, *, locked: bool = False
) -> Session | None:
    """Return the session, or None where none of that id is visible.

    ``locked`` keeps others from changing it, and from adding runs to it, until the transaction ends.
    """
    query = select(*sessions.c).where(*visible_to(sessions, visibility), sessions.c.session_id == session_id)
    row = connection.execute(query.with_for_update() if locked else query).mappings().first()
    return None if row is None else _session(row)


def list_sessions(
    connection: Connection, visibility: Visibility, selection: SessionFilter, page: Page
) -> tuple[list[Session], int]:
    """Return a page of the visible sessions, and how many there are in all."""
    conditions = _conditions(visibility, selection)
    column = sessions.c.updated_at if selection.sort_by == "updated_at" else sessions.c.created_at
    order = (column.desc(), sessions.c.id.desc()) if selection.descending else (column, sessions.c.id)
    query = paged(select(*sessions.c).where(*conditions).order_by(*order), page)
    counted = select(func.count()).select_from(sessions).where(*conditions)
    found = read_rows(connection, query, sessions.c.id, _session)
    return found, int(connection.execute(counted).scalar_one())


def change_session(connection: Connection, session: Session, changes: Mapping[str, Any]) -> Session | None:
    """Change these columns and return the session; None where it was deleted meanwhile."""
    statement = update(sessions).where(sessions.c.id == session.key).values(**changes).returning(*sessions.c)
    row = connection.execute(statement).mappings().first()
    return None if row is None else _session(row)


def lock_runs(connection: Connection, session: Session) -> frozenset[RunStatus]:
    """Lock the session's runs until the transaction ends, and return which statuses they have.

    Runs that are PENDING or RUNNING are not waited for: where there are any, none is locked.
    """
    unfinished = runs.c.status.in_([RunStatus.PENDING.value, RunStatus.RUNNING.value])
    of_it = select(runs.c.status).where(runs.c.session_key == session.key)
    found = connection.execute(of_it.where(unfinished).limit(1)).scalars().all()
    # Transactions that change one now are waited for, and their result is read.
    found = found or connection.execute(of_it.order_by(runs.c.id).with_for_update()).scalars().all()
    return frozenset(map(RunStatus, found))


def delete_session(connection: Connection, session: Session) -> list[str]:
    """Remove the session with its runs, which have to be locked, and all rows of these; return the runs' ids."""
    gone = connection.execute(delete(runs).where(runs.c.session_key == session.key).returning(runs.c.run_id))
    run_ids = [str(run_id) for run_id in gone.scalars()]
    connection.execute(delete(sessions).where(sessions.c.id == session.key))
    return run_ids


def list_conversation(
    connection: Connection, session_key: int, run_key: int, last_runs: int
) -> tuple[tuple[Any, ...], tuple[Message, ...]]:
    """Return the native messages of the session's last completed runs before the run, and the run's own messages.

    Both oldest first.
    """
    with readable():
        rows = _CONVERSATION.all(connection, {"key": session_key, "before": run_key, "limit": last_runs})
        unfold(connection, [(row["run_key"], row[column]) for row in rows for column in ("native", "entries")])
        history = tuple(row["native"] for row in rows if row["run_key"] != run_key)
        return history, tuple(read_message(row) for row in rows if row["run_key"] == run_key)


def _conditions(visibility: Visibility, selection: SessionFilter) -> list[ColumnElement[bool]]:
    conditions = visible_to(sessions, visibility)
    if selection.agent_id is not None:
        # Sessions without an agent have an empty one, and no filter finds these.
        conditions.extend((sessions.c.agent_id == selection.agent_id, sessions.c.agent_id != ""))
    if selection.user_id is not None:
        conditions.append(sessions.c.user_id == selection.user_id)
    if selection.session_name is not None:
        conditions.append(sessions.c.session_name.icontains(selection.session_name, autoescape=True))
    return conditions


def _session(row: Record) -> Session:
    plain = "session_id agent_id created_at updated_at user_id session_name session_state metadata summary"
    return Session(key=row["id"], **{name: row[name] for name in plain.split()})
