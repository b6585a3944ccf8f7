"""Says whether this process can serve requests, and what is missing where it cannot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from unpause.clock import SystemClock, elapsed_seconds
from unpause.domain.nodes import Missing, MissingPart, OtherSchema
from unpause.errors import SchemaMismatch, UnpauseError
from unpause.store.engine.dialects import is_shared
from unpause.store.engine.revisions import SCHEMA_REVISION
from unpause.store.engine.schema import check_schema
from unpause.store.nodes import list_live_agents, list_unserved
from unpause.store.run_queue import read_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from unpause.agents.registry import AgentRegistry
    from unpause.clock import Clock
    from unpause.domain.nodes import Unserved
    from unpause.store.engine.database import Connection, Database
    from unpause.store.engine.revisions import SchemaState
    from unpause.tasks import Pulse

_MAX_CLOCK_OFFSET: Final = timedelta(seconds=1)
_LOADING: Final = Missing(MissingPart.AGENTS, "The agents are being loaded")
_FULL: Final = Missing(MissingPart.DATABASE, "The database's disk is full")
_LOST: Final = Missing(
    MissingPart.DATABASE, "The database's file was moved, replaced or deleted: restart the server with the right one"
)
_DYING: Final = Missing(MissingPart.BACKGROUND, "A background task has died; the process is about to exit")


@dataclass(frozen=True, slots=True)
class Readiness:
    """What is ``missing``, and the runs by agent that wait for a process that executes it.

    ``schema`` is that of the database where it is older or newer than this version's.
    """

    missing: tuple[Missing, ...]
    unserved: tuple[Unserved, ...] = ()
    schema: OtherSchema | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """What the database shows: its schema, who serves agents, which runs wait, its time where others share it."""

    schema: SchemaState
    live: frozenset[str]
    unserved: tuple[Unserved, ...]
    now: datetime | None


class ReadinessCheck:
    """Asks the database, the registry and the background work.

    ``own`` names the agents that this process executes, or is None while they are not known; ``patience`` is how long
    other nodes may be silent.
    """

    def __init__(
        self,
        database: Database,
        registry: AgentRegistry,
        clock: Clock,
        own: Callable[[], Collection[str] | None],
        patience: timedelta,
    ) -> None:
        self._database = database
        self._registry = registry
        self._clock = clock
        self._own = own
        self._patience = patience

    async def check(self, pulse: Pulse) -> Readiness:
        """Return what is missing now."""
        own = self._missing_here(pulse)
        if own is not None:
            return Readiness((own,))
        began = elapsed_seconds()
        try:
            found = await self._database.read(self._look)
        except SchemaMismatch as error:
            return Readiness((Missing(MissingPart.SCHEMA, error.message),))
        except UnpauseError as error:
            return Readiness((Missing(MissingPart.DATABASE, error.message),))
        missing = (*self._missing_workers(found), *self._clock_is_off(found, elapsed_seconds() - began))
        return Readiness(missing, found.unserved, _other_schema(found.schema))

    def _missing_here(self, pulse: Pulse) -> Missing | None:
        """Return what is missing as far as this process knows without asking the database."""
        if pulse.has_died:
            return _DYING
        if not self._registry.is_loaded:
            return _LOADING
        if self._database.availability.is_full:
            return _FULL
        return _LOST if self._database.has_lost_its_file() else None

    def _look(self, connection: Connection) -> _Found:
        schema = check_schema(connection)
        live = frozenset(self._own() or ()) | list_live_agents(connection, self._patience)
        now = read_clock(connection) if is_shared(connection) and isinstance(self._clock, SystemClock) else None
        return _Found(schema, live, tuple(list_unserved(connection, live)), now)

    def _missing_workers(self, found: _Found) -> tuple[Missing, ...]:
        """Return whether runs of agents that are offered here would wait forever."""
        lacking = tuple(sorted(self._registry.served.names - found.live))
        if not lacking:
            return ()
        return (Missing(MissingPart.WORKER, f"No live process executes runs of: {', '.join(lacking)}", lacking),)

    def _clock_is_off(self, found: _Found, took: float) -> tuple[Missing, ...]:
        """Return whether the clock that this process works with differs from the database's."""
        if found.now is None:
            return ()
        # What the question took lies between the two readings.
        off = abs(self._clock.now() - found.now) - timedelta(seconds=took)
        if off <= _MAX_CLOCK_OFFSET:
            return ()
        return (
            Missing(MissingPart.CLOCK, f"The clock differs from the database's by {off.total_seconds():.1f} seconds"),
        )


def _other_schema(state: SchemaState) -> OtherSchema | None:
    if state.is_current or state.revision is None:
        return None
    return OtherSchema(state.revision, SCHEMA_REVISION, state.describe())
