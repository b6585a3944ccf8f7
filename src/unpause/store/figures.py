"""Figures of the whole database for metrics: one cheap query each, on partial indexes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, literal_column, select

from unpause.domain.runs import RunStatus
from unpause.store.tables import runs, webhook_deliveries

if TYPE_CHECKING:
    from sqlalchemy import Select
    from sqlalchemy.engine import Connection


@dataclass(frozen=True, slots=True)
class RunCount:
    """How many runs of an agent have a status, and since when the oldest of them has it."""

    agent_id: str
    status: RunStatus
    count: int
    oldest: datetime


def _counted(status: RunStatus) -> Select[Any]:
    return (
        select(runs.c.agent_id, func.count(), func.min(runs.c.updated_at))
        # As the partial indexes have it: a bound value would keep PostgreSQL from using them.
        .where(runs.c.status == literal_column(f"'{status.value}'"))
        .group_by(runs.c.agent_id)
    )


_UNFINISHED = {status: _counted(status) for status in (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.PAUSED)}
_WAITING_DELIVERIES = select(func.count()).where(webhook_deliveries.c.next_attempt_at.is_not(None))


def count_unfinished(connection: Connection) -> list[RunCount]:
    """Return the runs that have not ended, by agent and status."""
    return [
        RunCount(str(row[0]), status, int(row[1]), row[2])
        for status, query in _UNFINISHED.items()
        for row in connection.execute(query)
    ]


def count_waiting_deliveries(connection: Connection) -> int:
    """Return how many messages of webhooks have not arrived yet and will be tried again."""
    return int(connection.execute(_WAITING_DELIVERIES).scalar_one())
