"""Transactions that were left open by a process that froze: what they have locked nobody else can write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

from unpause.store.engine.postgres import APPLICATION

if TYPE_CHECKING:
    from datetime import timedelta

    from sqlalchemy.engine import Connection

_END = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE datname = current_database() AND usename = current_user AND application_name = :application"
    " AND state IN ('idle in transaction', 'idle in transaction (aborted)')"
    " AND state_change < clock_timestamp() - make_interval(secs => :seconds)"
)


def end_open_transactions(connection: Connection, idle: timedelta) -> int:
    """Cut the connections of any of our processes in whose transaction nothing was said for so long; return how many.

    Whoever only was slow hears that the database was away, and tries again.
    """
    given = {"application": APPLICATION, "seconds": idle.total_seconds()}
    return int(connection.execute(_END, given).scalar_one())
