"""Measures several processes on one PostgreSQL, and prints a Markdown table.

``python -m tests.benchmarks.nodes [--seconds N] [--clients N]``: cycles per second of one API node with one and with
two workers; how long after a run was committed another process asks its model; events per second through the log while
100 runs stream; and what idle processes use of the processor. PostgreSQL writes to disk as it does by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.benchmarks import instant_agent, streaming_agent
from tests.benchmarks.load import load
from tests.benchmarks.subjects import processor_seconds
from tests.support.cluster import Cluster
from tests.support.databases import PostgresServer, postgres_server
from tests.support.runs import ADA
from tests.support.serving import running
from unpause.services.commands import CreateRun

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.processes import ServerProcess

_IDLE_SECONDS = 10.0
_STREAMS = 100
_PIECES = 200
# Slow enough that none waits for another.
_STARTS = 150
_BETWEEN_STARTS = 0.1
# The first run of a process costs it what is only built once: these are shown on their own.
_FIRST_STARTS = 10
_DEADLINE = 300.0


@contextmanager
def nodes(postgres: PostgresServer, folder: Path, workers: int) -> Iterator[Cluster]:
    """Run one API node and some workers on a fresh database."""
    agents = [option for module in (instant_agent, streaming_agent) for option in ("--agents", str(module.__file__))]
    folder.mkdir()
    with postgres.migrated_database() as url, Cluster(folder, url, *agents, TEST_FOLDER=str(folder)) as cluster:
        cluster.start(apis=1, workers=workers)
        yield cluster


def count_cycles(cluster: Cluster, clients: int, seconds: float) -> tuple[float, float]:
    """Return the cycles of create and continue in a second, and the processor time of all processes for one, in ms.

    That of PostgreSQL is not counted.
    """
    port = urlsplit(cluster.apis[0].address).port or 0
    processes = [*cluster.apis, *cluster.workers]
    before = sum(processor_seconds(process.pid) for process in processes)
    tally = asyncio.run(load(port, "instant", clients, seconds))
    used = sum(processor_seconds(process.pid) for process in processes) - before
    return tally.cycles_per_second, 1000 * used / tally.cycles


def time_starts(cluster: Cluster) -> list[float]:
    """Return how many milliseconds after the commit each run's model was asked, in another process."""

    async def create() -> dict[str, float]:
        committed = {}
        agents = [streaming_agent.noting]
        async with running(cluster.folder, agents, database_url=cluster.database_url, worker=False) as application:
            for number in range(_FIRST_STARTS + _STARTS):
                await application.service.create_run(ADA, CreateRun("noting", f"{number}"))
                committed[f"{number}"] = time.time()
                await asyncio.sleep(_BETWEEN_STARTS)
        return committed

    committed = asyncio.run(create())
    file = cluster.folder / "started.txt"
    _wait_until_done(cluster, "noting")
    started = dict(line.split() for line in file.read_text().splitlines())
    return [(float(started[number]) - at) * 1000 for number, at in committed.items()]


def count_events(cluster: Cluster) -> tuple[int, float]:
    """Return how many events went through the log while the runs streamed, and how many those were in a second."""
    with cluster.apis[0].client() as client:
        for _ in range(_STREAMS):
            form = {"message": f"{_PIECES}", "background": "true", "stream": "false"}
            client.post("/agents/streaming/runs", data=form).raise_for_status()
    _wait_until_done(cluster, "streaming")
    ((count, seconds),) = cluster.rows(
        "SELECT count(*), extract(epoch FROM max(events.created_at) - min(events.created_at))::float"
        " FROM events JOIN runs ON runs.id = events.run_key WHERE agent_id = 'streaming'"
    )
    return count, count / seconds


def _wait_until_done(cluster: Cluster, agent_id: str) -> None:
    deadline = time.monotonic() + _DEADLINE
    while time.monotonic() < deadline:
        ((left,),) = cluster.rows("SELECT count(*) FROM runs WHERE agent_id = %s AND status <> 'COMPLETED'", agent_id)
        if not left:
            return
        time.sleep(0.2)
    message = f"{left} runs of {agent_id} are not done"
    raise RuntimeError(message)


def idle_percents(processes: Sequence[ServerProcess]) -> list[float]:
    """Return how much of one processor each process uses while nothing happens, in percent."""
    before = [processor_seconds(process.pid) for process in processes]
    time.sleep(_IDLE_SECONDS)
    return [
        100 * (processor_seconds(process.pid) - used) / _IDLE_SECONDS
        for process, used in zip(processes, before, strict=True)
    ]


def measure(postgres: PostgresServer, folder: Path, clients: int, seconds: float) -> Iterator[str]:
    """Yield the lines of the table."""
    load_average = os.getloadavg()[0]
    for workers in (1, 2):
        with nodes(postgres, folder / f"{workers}", workers) as cluster:
            rate, cost = count_cycles(cluster, clients, seconds)
            what = f"cycles per second, {workers} worker{'s' * (workers > 1)}, {clients} clients"
            yield f"| {what} (processor time of a cycle) | {rate:.1f} ({cost:.0f} ms) |"
    with nodes(postgres, folder / "others", 2) as cluster:
        time.sleep(2)
        used = idle_percents([*cluster.apis, *cluster.workers])
        shown = ", ".join(f"{each:.1f}" for each in used)
        yield f"| idle: API node and each of 2 workers, % of a processor | {shown} |"
        starts = time_starts(cluster)
        cuts = statistics.quantiles(starts[_FIRST_STARTS:], n=100)
        slowest = max(starts[:_FIRST_STARTS])
        yield f"| commit to the model's first request, ms, slowest of the first {_FIRST_STARTS} | {slowest:.1f} |"
        yield f"| commit to the model's first request, ms, p50 / p99 of {_STARTS} | {cuts[49]:.1f} / {cuts[98]:.1f} |"
        count, rate = count_events(cluster)
        yield f"| events per second, {_STREAMS} runs streaming, {count:,} events | {rate:,.0f} |"
    yield f"| load of the machine before | {load_average:.1f} on {os.cpu_count()} processors |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print what came out as it comes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a measurement of cycles")
    parser.add_argument("--clients", type=int, default=32, help="clients that cycle at once")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, postgres_server(is_safe=True) as postgres:
        sys.stdout.write("| many nodes | |\n| --- | --- |\n")
        for line in measure(postgres, Path(folder), options.clients, options.seconds):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
