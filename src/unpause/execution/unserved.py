"""Sees which runs wait for unserved agents, and says so: else nobody would know why they wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from unpause.store.nodes import list_live_agents, list_unserved

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import timedelta

    from unpause.domain.nodes import Unserved
    from unpause.store.engine.database import Connection, Database

_log = structlog.get_logger(__name__)


class UnservedRuns:
    """Looks for them; ``own`` are the agents that this process executes, ``patience`` how long nodes may be silent."""

    def __init__(self, database: Database, own: Collection[str], patience: timedelta) -> None:
        self._database = database
        self._own = frozenset(own)
        self._patience = patience
        self._told: tuple[str, ...] = ()

    async def look(self) -> list[Unserved]:
        """Return them by agent; none where every run that waits has somebody to go on with it."""
        return await self._database.read(self._unit)

    async def sweep(self) -> int:
        """Log which agents are missing, whenever that changes; return how many."""
        found = await self.look()
        missing = tuple(each.agent_id for each in found)
        if missing != self._told:
            self._told = missing
            if found:
                waiting = {each.agent_id: {"pending": each.pending, "paused": each.paused} for each in found}
                _log.warning("runs wait for unserved agents", agents=waiting)
            else:
                _log.info("all agents are served again")
        return len(found)

    def _unit(self, connection: Connection) -> list[Unserved]:
        return list_unserved(connection, self._own | list_live_agents(connection, self._patience))
