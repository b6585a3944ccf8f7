"""Measures the first page of an inbox with many open requests, and what consoles cost that follow it.

``python -m tests.benchmarks.inbox [--rows N] [--rounds N] [--consoles N]``: on SQLite and PostgreSQL, for callers to
whom all requests belong, a few of them as the user of the runs, or a few as an approver; reading and writing the page.
The consoles are connections to a server process of its own, whose memory is read from the system.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from sqlalchemy import text

from tests.support.backlog import add_backlog
from tests.support.databases import postgres_server, sqlite_url
from tests.support.processes import ServerProcess
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import running
from unpause.api.inbox.wire import page_of
from unpause.domain.inbox import InboxFilter
from unpause.domain.principal import Principal
from unpause.domain.scopes import DEFAULT_SCOPES
from unpause.store.engine import migrate
from unpause.store.engine.schema import plain_engine

if TYPE_CHECKING:
    from collections.abc import Sequence

_WARM_UP = 3
_FEW = 10
_USUAL = frozenset(DEFAULT_SCOPES)
# The few belong to Ada, and name Bob; all others belong to others, and name others.
_OWNERS = "UPDATE runs SET user_id = CASE WHEN id % :share = 0 THEN 'ada' ELSE 'somebody' END"
_APPROVERS = """
    UPDATE requirements SET deciders = CASE WHEN run_key % :share = 1 THEN :bob ELSE :eve END WHERE run_key % 2 = 1
"""
_RULES = '{{"four_eyes":false,"approvers":["{}"],"quorum":1}}'
_CALLERS = {
    "all": Principal(1),
    "few of my runs": Principal(1, "ada", subject="ada", scopes=_USUAL, is_isolated=True),
    "few that name me": Principal(1, "bob", subject="bob", scopes=_USUAL, is_isolated=True),
}


def fill(url: str, rows: int) -> None:
    """Add the open requests."""
    with closing(plain_engine(url).connect()) as connection:
        with connection.begin():
            add_backlog(connection, rows)
            connection.execute(text(_OWNERS), {"share": rows // _FEW})
            rules = {name: _RULES.format(name) for name in ("bob", "eve")}
            statement = _APPROVERS
            if connection.dialect.name == "postgresql":
                statement = statement.replace(":bob", "CAST(:bob AS json)").replace(":eve", "CAST(:eve AS json)")
            connection.execute(text(statement), {"share": rows // _FEW, **rules})
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text("VACUUM ANALYZE" if connection.dialect.name == "postgresql" else "ANALYZE"))


async def measure(folder: Path, url: str, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each first page, by the kind of caller."""
    times: dict[str, list[float]] = {name: [] for name in _CALLERS}
    async with running(folder, drivers=[ScriptedDriver()], database_url=url) as application:
        for number in range(_WARM_UP + rounds):
            for name, principal in _CALLERS.items():
                begun = perf_counter()
                page = await application.inbox.list_open(principal, InboxFilter(), None, 50)
                page_of(page, "http://here").model_dump_json(by_alias=True)
                if number >= _WARM_UP:
                    times[name].append(perf_counter() - begun)
                if not page.items:
                    message = f"{name}: nothing was found"
                    raise RuntimeError(message)
    return times


def report(kind: str, times: dict[str, list[float]]) -> list[str]:
    """Return the lines of a kind of database."""
    lines = []
    for name, taken in times.items():
        slow = statistics.quantiles(taken, n=20)[-1]
        lines.append(f"| {kind}, {name} | {statistics.median(taken) * 1000:.1f} | {slow * 1000:.1f} |")
    return lines


async def connect(address: str, consoles: int, pid: int) -> float:
    """Return the bytes that each of so many consoles costs the server."""
    place = urlsplit(address)
    before = resident(pid)
    request = f"GET /inbox/events HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode()
    writers = []
    for _ in range(consoles):
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(request)
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")
        writers.append(writer)
    await asyncio.sleep(1)
    after = resident(pid)
    for writer in writers:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return (after - before) / consoles


def resident(pid: int) -> int:
    """Return the bytes of memory that the process has, as the system counts them."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000, help="open requests")
    parser.add_argument("--rounds", type=int, default=50, help="pages measured for each caller")
    parser.add_argument("--consoles", type=int, default=500)
    options = parser.parse_args(arguments)
    lines = ["| first page, ms | p50 | p95 |", "| --- | --- | --- |"]
    with tempfile.TemporaryDirectory() as name, postgres_server() as server:
        folder = Path(name)
        with server.migrated_database() as url:
            fill(url, options.rows)
            lines += report("PostgreSQL", asyncio.run(measure(folder, url, options.rounds)))
        url = sqlite_url(folder / "inbox.db")
        migrate.upgrade(url)
        fill(url, options.rows)
        lines += report("SQLite", asyncio.run(measure(folder, url, options.rounds)))
        process = ServerProcess(folder / "consoles", command="demo")
        with process:
            # The first ones load code.
            asyncio.run(connect(process.address, 20, process.pid))
            cost = asyncio.run(connect(process.address, options.consoles, process.pid))
    for line in (f"{options.rows:,} open requests, {options.rounds} pages each:", "", *lines):
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"\n{options.consoles} consoles: {cost / 1000:.1f} kB each\n")


if __name__ == "__main__":
    main()
