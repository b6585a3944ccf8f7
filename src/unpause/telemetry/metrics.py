"""The counters and histograms of this process, as Prometheus has them.

They belong to the process, like its log, and not to one application in it, so they are module-level objects. Labels
have few values, whatever clients send: agents, routes and fixed words, never a user, a run or a path.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    disable_created_metrics,
)
from prometheus_client.process_collector import ProcessCollector

from unpause.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

# When each counter was made: as many samples again, which nobody looks at.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations

REGISTRY: Final = CollectorRegistry()

# From one answer of SQLite to the longest that a request waits for a lock.
_QUICK: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# From a request that is answered at once to a run of an hour.
_LONG: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
# How long people take: from seconds to a month.
_HUMAN: Final = (1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0)
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def _counter(name: str, help_text: str, *labels: str) -> Counter:
    return Counter(f"unpause_{name}", help_text, labels, registry=REGISTRY)


def _histogram(name: str, help_text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
    return Histogram(f"unpause_{name}", help_text, labels, buckets=buckets, registry=REGISTRY)


def _gauge(name: str, help_text: str, *labels: str) -> Gauge:
    return Gauge(f"unpause_{name}", help_text, labels, registry=REGISTRY)


BUILD: Final = _gauge("build_info", "Always 1; the label has the version", "version")
BUILD.labels(VERSION).set(1)

# -------------------------------------------------------------------------------- runs

TRANSITIONS: Final = _counter(
    "run_transitions", "Committed changes of runs: create, and the triggers of the state machine", "trigger", "agent"
)
ENDED: Final = _counter(
    "runs_ended", "Runs that ended, by status and reason; without a reason they completed", "agent", "status", "reason"
)
STARTED_AFTER: Final = _histogram(
    "run_start_seconds", "From the commit of a create or continue to the claim of the run", _LONG, "trigger"
)
FIRST_EVENT: Final = _histogram(
    "run_first_event_seconds", "From a create or continue to the first event of the segment", _LONG
)
PAUSED_FOR: Final = _histogram("run_pause_seconds", "How long runs that were continued had waited for people", _HUMAN)
SEGMENT: Final = _histogram("segment_seconds", "Time of a segment, from its claim to its end", _LONG, "agent")
RUNNING: Final = _gauge("segments_running", "Segments that this process executes now")
TOOL_CALLS: Final = _histogram("tool_call_seconds", "Tool calls, by how they ended", _LONG, "agent", "outcome")
IN_DOUBT: Final = _counter("calls_in_doubt", "Calls without a recorded end, which a person has to decide", "agent")
GRANTED: Final = _counter("calls_granted", "Calls that a remembered approval decided, so that nobody waited", "agent")
RECOVERED: Final = _counter("runs_recovered", "Runs taken back from a worker or agent process that died", "cause")
AGENT_PROCESS_DEATHS: Final = _counter("agent_process_deaths", "Agent processes that ended without being asked to")
AGENT_PROCESSES: Final = _gauge("agent_processes", "Agent processes of this process that are alive")
AGENT_PROCESS_MEMORY: Final = _gauge("agent_process_memory_bytes", "Memory of this process's agent processes in all")

# -------------------------------------------------------------------------------- streams and the database

FOLLOWERS: Final = _gauge("followers", "Streams of events that are open in this process")
BATCH: Final = _histogram("commit_batch_units", "Units of work that shared one transaction (group commit)", _SIZES)
COMMIT_WAIT: Final = _histogram("commit_wait_seconds", "From handing over a unit of work to its commit", _QUICK)
DATABASE: Final = _histogram(
    "database_seconds", "Work on the database: the wait, the statements, the commit", _QUICK, "kind"
)
DATABASE_ERRORS: Final = _counter(
    "database_errors", "Work that failed: the database was away, or too long locked", "error"
)
DATABASE_UP: Final = _gauge("database_up", "1 while the database answers this process, else 0")
CONNECTIONS: Final = _gauge("database_connections", "Connections of this process: those in use, and the most", "state")
LEASE_RENEWALS: Final = _counter("lease_renewals", "Renewals of leases, by result", "result")
LEASES_LOST: Final = _counter("leases_lost", "Runs that this process executed and another one has taken over")

# -------------------------------------------------------------------------------- messages and requests

DELIVERIES: Final = _counter("deliveries", "Attempts to deliver messages such as webhooks, by result", "kind", "result")
HTTP: Final = _histogram(
    "http_request_seconds",
    "Requests by route and status; a stream's time is until its end",
    _LONG,
    "method",
    "route",
    "status",
)
HTTP_OPEN: Final = _gauge("http_requests_open", "Requests that are being answered, streams among them")

for _standard in (GCCollector, PlatformCollector, ProcessCollector):
    _standard(registry=REGISTRY)

# A counter that appears with its first event has not risen, as Prometheus sees it: no alarm.
for _kind in ("write", "append", "execute", "read"):
    DATABASE.labels(_kind)
for _result in ("renewed", "failed"):
    LEASE_RENEWALS.labels(_result)
for _error in ("away", "busy"):
    DATABASE_ERRORS.labels(_error)
for _cause in ("worker", "agent_process"):
    RECOVERED.labels(_cause)
for _kind, _result in product(("webhook", "notification"), ("delivered", "failed", "given_up", "undecryptable")):
    DELIVERIES.labels(_kind, _result)


def show_agents(agent_ids: Iterable[str]) -> None:
    """Show the counters of these agents, too, before there is anything to count."""
    for agent_id in agent_ids:
        for counter in (IN_DOUBT, GRANTED):
            counter.labels(agent_id)
