"""Logs which runs wait for agents that no live process serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from unpause.store.nodes import list_live_agents, list_unserved

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import timedelta

    from unpause.domain.nodes import Unserved
    from unpause.store.engine.database import Database

_log = structlog.get_logger(__name__)


class UnservedRuns:
    """Finds them; ``own`` names the agents that this process executes, or is None while they are not known.

    ``patience`` is how long nodes may be silent.
    """

    def __init__(self, database: Database, own: Callable[[], Collection[str] | None], patience: timedelta) -> None:
        self._database = database
        self._own = own
        self._patience = patience
        self._reported: tuple[str, ...] = ()

    async def look(self) -> list[Unserved]:
        """Return the waiting runs by agent; none where a live process serves every agent, or may soon."""
        own = self._own()
        if own is None:
            return []
        return await self._database.read(
            lambda connection: list_unserved(connection, frozenset(own) | list_live_agents(connection, self._patience))
        )

    async def sweep(self) -> int:
        """Log the missing agents whenever they change; return their number."""
        found = await self.look()
        missing = tuple(each.agent_id for each in found)
        if missing != self._reported:
            self._reported = missing
            if found:
                waiting = {each.agent_id: {"pending": each.pending, "paused": each.paused} for each in found}
                _log.warning("runs wait for unserved agents", agents=waiting)
            else:
                _log.info("all agents are served again")
        return len(found)
