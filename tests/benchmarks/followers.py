"""Measures what followers of one run cost the server's memory, and what those cost that do not read.

``python -m tests.benchmarks.followers [--followers N]``: first in this process, without HTTP: N readers, then N that do
not read, follow a run that goes on. Then over HTTP: N connections to a server process that wait for nothing, and N that
follow a paused run; that takes as many open files, here and there.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import tempfile
import tracemalloc
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from socket import create_connection
from time import perf_counter
from typing import TYPE_CHECKING

import httpx

from tests.benchmarks.subjects import find_subject, serving_process
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import running
from unpause.domain.events import Event, EventType
from unpause.domain.principal import Principal
from unpause.domain.runs import RunRef
from unpause.services.commands import CreateRun
from unpause.store.events import add_events
from unpause.store.runs import append_to_log
from unpause.streaming.bus import InProcessBus
from unpause.streaming.follow import Follower

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from unpause.store.engine.database import Database

_PAYLOAD = {"content": "x" * 100}
_BATCH = 4
# So many batches, or fewer for many followers: all of them get all events.
_BATCHES = 1000
_DELIVERED = 4_000_000
_CONNECTION_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Log:
    """The log of one run that this script writes to, with a bus and a follower of its own."""

    database: Database
    run_key: int
    bus: InProcessBus
    follower: Follower

    async def append(self, *types: EventType) -> None:
        """Commit a batch and announce it."""
        now = datetime.now(UTC)

        def unit(connection: Connection) -> tuple[Event, ...]:
            last = append_to_log(connection, self.run_key, len(types), now)
            return add_events(connection, self.run_key, [Event(kind, now, _PAYLOAD) for kind in types], last)

        self.bus.publish(self.run_key, await self.database.write(unit))

    async def count(self, after: int) -> int:
        """Follow to the end of the segment; return how many events there were."""
        seen = 0
        async for event in self.follower.follow_run(self.run_key, after):
            seen += 1
            if event.sequence != after + seen:
                message = f"event {event.sequence} came where {after + seen} was due"
                raise RuntimeError(message)
        return seen


async def measure(folder: Path, followers: int) -> list[str]:
    """Return the lines that say what was measured."""
    async with running(folder, drivers=[ScriptedDriver()]) as application:
        accepted = await application.service.create_run(Principal(1), CreateRun("scripted", "go"))
        async for _ in application.follower.follow_run(accepted.run.id, 0):
            pass
        bus = InProcessBus()
        log = Log(application.database, accepted.run.id, bus, Follower(application.database, bus))
        last = (await application.service.get_run(Principal(1), RunRef(id=accepted.run.id))).last_sequence
        tracemalloc.start()
        return [
            await _reading(log, last, followers),
            await _not_reading(log, followers),
        ]


async def _reading(log: Log, last: int, followers: int) -> str:
    batches = min(_BATCHES, _DELIVERED // _BATCH // followers)
    before = _used()
    async with asyncio.TaskGroup() as tasks:
        following = [tasks.create_task(log.count(last)) for _ in range(followers)]
        while len(log.bus._subscriptions.get(log.run_key, ())) < followers:  # noqa: ASYNC110, SLF001 - the bus tells nobody
            await asyncio.sleep(0)
        waiting, begin = _used() - before, perf_counter()
        for _ in range(batches):
            await log.append(*[EventType.CONTENT_DELTA] * _BATCH)
        await log.append(EventType.RUN_COMPLETED)
        peak = _used() - before
    seconds = perf_counter() - begin
    if {task.result() for task in following} != {batches * _BATCH + 1}:
        message = "a follower did not get every event once"
        raise RuntimeError(message)
    delivered = followers * (batches * _BATCH + 1)
    return (
        f"{followers} that read: {waiting / followers / 1e3:.1f} kB each while they wait, {peak / 1e6:.1f} MB for all "
        f"at the end of {batches * _BATCH} events, {delivered / seconds:,.0f} events delivered per second"
    )


async def _not_reading(log: Log, followers: int) -> str:
    async with AsyncExitStack() as stack:
        for _ in range(followers):
            stack.enter_context(log.bus.subscribed(log.run_key))
        figures = []
        before = _used()
        for _ in range(3):
            for _ in range(_BATCHES):
                await log.append(*[EventType.CONTENT_DELTA] * _BATCH)
            figures.append(f"{(_used() - before) / 1e6:.1f} MB")
    return (
        f"{followers} that do not read, after {_BATCHES * _BATCH} events, twice and three times as many: "
        + ", ".join(figures)
    )


def measure_over_http(folder: Path, followers: int) -> list[str]:
    """Return the lines that say what connections to a server process cost."""
    lines = []
    with serving_process(find_subject("unpause-0"), folder, f"sqlite:///{folder}.db") as server:
        started = httpx.post(
            f"http://127.0.0.1:{server.port}/agents/instant/runs", data={"message": "do it", "stream": "false"}
        )
        run_id = started.raise_for_status().json()["run_id"]
        path = f"/agents/instant/runs/{run_id}/events?follow=true"
        for what, target in (("that wait for nothing", "/health"), ("that follow a paused run", path)):
            before = server.resident_megabytes()[0]
            with ExitStack() as stack:
                for _ in range(followers):
                    _open(stack, server.port, target)
                used = server.resident_megabytes()[0] - before
            lines.append(f"{followers} connections {what}: {used * 1e3 / followers:.1f} kB each")
    return lines


def _open(stack: ExitStack, port: int, target: str) -> None:
    """Send a request, and read the beginning of its answer."""
    connection = stack.enter_context(create_connection(("127.0.0.1", port), _CONNECTION_SECONDS))
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    if b" 200 " not in connection.recv(4096):
        message = f"{target} was not answered"
        raise RuntimeError(message)


def _used() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--followers", type=int, default=1000)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "server"
        folder.mkdir()
        for line in (
            *asyncio.run(measure(folder, options.followers)),
            *measure_over_http(Path(place) / "process", options.followers),
        ):
            sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
