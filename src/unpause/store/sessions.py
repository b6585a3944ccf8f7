"""The conversations that runs belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from unpause.domain.runs import RunStatus
from unpause.store.tables import messages, runs, sessions

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

    from sqlalchemy.engine import Connection

    from unpause.domain.principal import Principal


def ensure_session(connection: Connection, principal: Principal, session_id: str, agent_id: str, now: datetime) -> int:
    """Return the key of the session of that id, made now if the organization has none."""
    touched = (
        update(sessions)
        .where(sessions.c.organization_id == principal.organization_id, sessions.c.session_id == session_id)
        .values(updated_at=now)
        .returning(sessions.c.id)
    )
    found = connection.execute(touched).scalar()
    if found is not None:
        return int(found)
    added = (
        insert(sessions)
        .values(
            organization_id=principal.organization_id,
            session_id=session_id,
            agent_id=agent_id,
            user_id=principal.user_id,
            created_at=now,
            updated_at=now,
        )
        .returning(sessions.c.id)
    )
    return int(connection.execute(added).scalar_one())


def list_history(connection: Connection, session_key: int, before_run: int, last_runs: int) -> list[Any]:
    """Return the native messages of the session's last completed runs before ``before_run``, oldest first."""
    if last_runs == 0:
        return []
    recent = (
        select(runs.c.id)
        .where(
            runs.c.session_key == session_key,
            runs.c.status == RunStatus.COMPLETED.value,
            runs.c.id < before_run,
        )
        .order_by(runs.c.id.desc())
        .limit(last_runs)
    )
    keys = sorted(connection.execute(recent).scalars())
    if not keys:
        return []
    query = (
        select(messages.c.native).where(messages.c.run_key.in_(keys)).order_by(messages.c.run_key, messages.c.position)
    )
    return list(connection.execute(query).scalars())
