"""Renews leases on a connection of its own that needs no event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import create_engine

from unpause.store.postgres import CONNECTION, database_errors
from unpause.store.readiness import renew_leases

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.engine import URL


class LeaseKeeper:
    """One connection of one thread."""

    def __init__(self, url: URL) -> None:
        self._engine = create_engine(url, pool_size=1, max_overflow=0, connect_args=CONNECTION)

    def renew(self, held: Collection[tuple[int, int]], expires_at: datetime) -> set[int]:
        """Renew the leases of runs, given with their fences; return the runs that are still held.

        Raises DatabaseUnavailable.
        """
        renewed = self._renew(held, expires_at)
        for run_key, fence in held:
            if run_key not in renewed:
                renewed |= self._renew([(run_key, fence)], expires_at)
        return renewed

    def _renew(self, held: Collection[tuple[int, int]], expires_at: datetime) -> set[int]:
        with database_errors(), self._engine.begin() as connection:
            return renew_leases(connection, held, expires_at)

    def close(self) -> None:
        """Close the connection."""
        self._engine.dispose()
