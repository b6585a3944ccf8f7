"""Renews leases on a connection of its own that needs no event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from unpause.store.postgres import CONNECTION, database_errors
from unpause.store.readiness import renew_leases

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.engine import URL

_WAIT_SHORTLY = text("SET LOCAL lock_timeout = '500ms'")
# The SQLSTATE of a lock that was waited for too long.
_LOCKED = "55P03"


class LeaseKeeper:
    """One connection of one thread."""

    def __init__(self, url: URL) -> None:
        self._engine = create_engine(url, pool_size=1, max_overflow=0, connect_args=CONNECTION)

    def renew(self, held: Collection[tuple[int, int]], expires_at: datetime) -> set[int]:
        """Renew the leases of runs, given with their fences; return the runs that are still held.

        A run that is locked for long cannot be renewed, nor can others take it: it counts as held. Raises
        DatabaseUnavailable.
        """
        kept = self._renew(held, expires_at)
        for run_key, fence in held:
            if run_key not in kept:
                try:
                    kept |= self._renew([(run_key, fence)], expires_at)
                except DBAPIError as error:
                    if getattr(error.orig, "sqlstate", None) != _LOCKED:
                        raise
                    # Most likely a transaction of our own whose event loop is held up: what else is missing is locked
                    # too, and to wait for each would cost the others their leases.
                    return {run_key for run_key, _ in held}
        return kept

    def _renew(self, held: Collection[tuple[int, int]], expires_at: datetime) -> set[int]:
        with database_errors(), self._engine.begin() as connection:
            connection.execute(_WAIT_SHORTLY)
            return renew_leases(connection, held, expires_at)

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()
