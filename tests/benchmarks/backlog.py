"""Measures what a backlog of paused runs costs a continue: beside an empty database, on PostgreSQL and on SQLite.

``python -m tests.benchmarks.backlog [--rows N] [--rounds N]``: two applications in one process, one on an empty
database and one with the backlog, are asked in turn, so that whatever else the machine does meets both alike. Of each
cycle, the continue is measured: until it is accepted, and until the run has ended.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from contextlib import AsyncExitStack, closing
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from sqlalchemy import text

from tests.support.backlog import add_backlog
from tests.support.databases import postgres_server, sqlite_url
from tests.support.runs import answer, finish, start_and_follow
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import running
from unpause.domain.requirements import ToolAnswer
from unpause.store.engine import migrate
from unpause.store.engine.schema import plain_engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unpause.bootstrap import Application

_WARM_UP = 20


async def cycle(application: Application) -> tuple[float, float]:
    """Return how long one continue took to be accepted, and to its run's end, in seconds."""
    run = (await start_and_follow(application)).run
    asked = perf_counter()
    continued = await answer(application, run, ToolAnswer(f"call-{run.id}", confirmed=True))
    accepted = perf_counter()
    await finish(application, run, continued)
    return accepted - asked, perf_counter() - asked


async def measure(folder: Path, urls: dict[str, str], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return the times by the databases' names."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in urls}
    async with AsyncExitStack() as stack:
        applications = {
            name: await stack.enter_async_context(running(folder, drivers=[ScriptedDriver()], database_url=url))
            for name, url in urls.items()
        }
        for number in range(_WARM_UP + rounds):
            for name in list(urls)[:: 1 if number % 2 else -1]:
                taken = await cycle(applications[name])
                if number >= _WARM_UP:
                    times[name].append(taken)
    return times


def fill(url: str, rows: int) -> float:
    """Add the backlog; return the seconds that took."""
    begun = perf_counter()
    with closing(plain_engine(url).connect()) as connection:
        with connection.begin():
            add_backlog(connection, rows)
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text("VACUUM ANALYZE" if connection.dialect.name == "postgresql" else "ANALYZE"))
    return perf_counter() - begun


def report(kind: str, times: dict[str, list[tuple[float, float]]]) -> list[str]:
    """Return lines for a kind of database."""
    lines = []
    for part, what in enumerate(("accepted", "ended")):
        empty, full = (statistics.median(taken[part] for taken in times[name]) * 1000 for name in ("empty", "backlog"))
        lines.append(f"| {kind}, {what} | {empty:.2f} | {full:.2f} | {full / empty:.2f} |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure both kinds, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="paused runs in the backlog")
    parser.add_argument("--rounds", type=int, default=300, help="continues measured on each database")
    options = parser.parse_args(arguments)
    lines = ["| continue, p50 in ms | empty | with the backlog | ratio |", "| --- | --- | --- | --- |"]
    with tempfile.TemporaryDirectory() as name, postgres_server() as server:
        folder = Path(name)
        with server.migrated_database() as empty, server.migrated_database() as backlog:
            sys.stderr.write(f"PostgreSQL filled in {fill(backlog, options.rows):.0f} s\n")
            urls = {"empty": empty, "backlog": backlog}
            lines += report("PostgreSQL", asyncio.run(measure(folder, urls, options.rounds)))
        urls = {name: sqlite_url(folder / f"{name}.db") for name in ("empty", "backlog")}
        for url in urls.values():
            migrate.upgrade(url)
        sys.stderr.write(f"SQLite filled in {fill(urls['backlog'], options.rows):.0f} s\n")
        lines += report("SQLite", asyncio.run(measure(folder, urls, options.rounds)))
    for line in (f"A backlog of {options.rows:,} paused runs, {options.rounds} continues each:", "", *lines):
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
