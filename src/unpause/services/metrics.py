"""What `/metrics` shows: the counters of this process, and figures of the whole database."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from unpause.clock import SystemClock
from unpause.errors import UnpauseError
from unpause.store.engine.dialects import is_shared
from unpause.store.figures import count_unfinished, count_waiting_deliveries
from unpause.store.nodes import count_live_nodes, list_live_agents, list_unserved
from unpause.store.run_queue import read_clock
from unpause.telemetry.metrics import CONNECTIONS, DATABASE_UP, REGISTRY

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from datetime import datetime, timedelta

    from prometheus_client import Metric

    from unpause.clock import Clock
    from unpause.domain.nodes import Unserved
    from unpause.store.engine.database import Connection, Database
    from unpause.store.figures import RunCount

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

# However often and by however many it is scraped.
_KEPT_SECONDS: Final = 5.0
_SHARED: Final = " The same on every node of a database: take the max over them, not the sum."


@dataclass(frozen=True, slots=True)
class _Figures:
    """What one query set has shown, and when by the clock of the process."""

    runs: tuple[RunCount, ...]
    unserved: tuple[Unserved, ...]
    nodes: int
    deliveries: int
    at: datetime
    clock_offset: float


class Metrics(Collector):
    """Renders the metrics. ``own`` names the agents that this process executes; ``patience`` is that of live nodes."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        own: Callable[[], Collection[str] | None],
        patience: timedelta,
    ) -> None:
        self._database = database
        self._clock = clock
        self._own = own
        self._patience = patience
        self._figures: _Figures | None = None
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def render(self) -> bytes:
        """Return the metrics as Prometheus reads them; without the database its figures are left out."""
        await self.refresh()
        return generate_latest(self)

    async def refresh(self) -> None:
        """Read the figures of the database again, unless they are new."""
        async with self._reading:
            if monotonic() - self._read_at > _KEPT_SECONDS:
                await self._read()
        DATABASE_UP.set(not self._database.availability.is_away)
        in_use, most = self._database.count_connections()
        CONNECTIONS.labels("in_use").set(in_use)
        CONNECTIONS.labels("most").set(most)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the process and of the database."""
        yield from REGISTRY.collect()
        yield from families(self._figures)

    async def _read(self) -> None:
        availability, found = self._database.availability, None
        # Whoever scrapes waits for seconds only; that it is back, the sweeps notice.
        if availability.is_full or not availability.is_away:
            with suppress(UnpauseError):
                found = await self._database.read(self._query)
        self._figures = found
        self._read_at = monotonic()

    def _query(self, connection: Connection) -> _Figures:
        served = frozenset(self._own() or ()) | list_live_agents(connection, self._patience)
        now = self._clock.now()
        shown = read_clock(connection) if is_shared(connection) and isinstance(self._clock, SystemClock) else now
        return _Figures(
            tuple(count_unfinished(connection)),
            tuple(list_unserved(connection, served)),
            count_live_nodes(connection, self._patience),
            count_waiting_deliveries(connection),
            now,
            abs((now - shown).total_seconds()),
        )


def families(figures: _Figures | None) -> Iterator[GaugeMetricFamily]:
    """Yield the gauges of the database, without samples where it did not answer."""
    runs = GaugeMetricFamily(
        "unpause_runs", f"Runs that have not ended, by agent and status.{_SHARED}", labels=("agent", "status")
    )
    oldest = GaugeMetricFamily(
        "unpause_oldest_run_age_seconds",
        f"Since when the oldest run of a status has it: PENDING waits for a worker, PAUSED for people.{_SHARED}",
        labels=("agent", "status"),
    )
    unserved = GaugeMetricFamily(
        "unpause_runs_unserved",
        f"Runs of agents that no live process executes; counted up to a thousand.{_SHARED}",
        labels=("agent", "status"),
    )
    nodes = GaugeMetricFamily("unpause_nodes", f"Live processes that execute runs; 1 on SQLite.{_SHARED}")
    deliveries = GaugeMetricFamily(
        "unpause_deliveries_waiting", f"Webhook messages to be sent, or sent again.{_SHARED}"
    )
    offset = GaugeMetricFamily(
        "unpause_clock_offset_seconds", "How far the clock that this process works with is from the database's."
    )
    if figures is not None:
        for each in figures.runs:
            labels = (each.agent_id, each.status.value)
            runs.add_metric(labels, each.count)
            oldest.add_metric(labels, max(0.0, (figures.at - each.oldest).total_seconds()))
        for waiting in figures.unserved:
            unserved.add_metric((waiting.agent_id, "PENDING"), waiting.pending)
            unserved.add_metric((waiting.agent_id, "PAUSED"), waiting.paused)
        nodes.add_metric((), figures.nodes)
        deliveries.add_metric((), figures.deliveries)
        offset.add_metric((), figures.clock_offset)
    yield from (runs, oldest, unserved, nodes, deliveries, offset)
