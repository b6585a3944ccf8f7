"""The conversations that runs belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, insert, select, update

from unpause.domain.runs import RunStatus
from unpause.store.tables import messages, runs, sessions

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

    from sqlalchemy.engine import Connection

    from unpause.domain.principal import Principal

_TOUCH = (
    update(sessions)
    .where(sessions.c.organization_id == bindparam("organization"), sessions.c.session_id == bindparam("session"))
    .returning(sessions.c.id)
)
_INSERT = insert(sessions).returning(sessions.c.id)
_RECENT = (
    select(runs.c.id)
    .where(
        runs.c.session_key == bindparam("key"),
        runs.c.status == RunStatus.COMPLETED.value,
        runs.c.id < bindparam("before"),
    )
    .order_by(runs.c.id.desc())
    .limit(bindparam("most"))
)


def ensure_session(connection: Connection, principal: Principal, session_id: str, agent_id: str, now: datetime) -> int:
    """Return the key of the session of that id, made now if the organization has none."""
    touched = {"organization": principal.organization_id, "session": session_id, "updated_at": now}
    found = connection.execute(_TOUCH, touched).scalar()
    if found is not None:
        return int(found)
    added = {
        "organization_id": principal.organization_id,
        "session_id": session_id,
        "agent_id": agent_id,
        "user_id": principal.user_id,
        "created_at": now,
        "updated_at": now,
    }
    return int(connection.execute(_INSERT, added).scalar_one())


def list_history(connection: Connection, session_key: int, before_run: int, last_runs: int) -> list[Any]:
    """Return the native messages of the session's last completed runs before ``before_run``, oldest first."""
    if last_runs == 0:
        return []
    recent = {"key": session_key, "before": before_run, "most": last_runs}
    keys = sorted(connection.execute(_RECENT, recent).scalars())
    if not keys:
        return []
    query = (
        select(messages.c.native).where(messages.c.run_key.in_(keys)).order_by(messages.c.run_key, messages.c.position)
    )
    return list(connection.execute(query).scalars())
