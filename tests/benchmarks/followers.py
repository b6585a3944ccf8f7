"""Measures what followers of one run cost the server's memory, and what those cost that do not read.

``python -m tests.benchmarks.followers [--followers N]``: in this process, without HTTP, which has its own cost for a
connection. A run with a log of 2,000 events goes on while nobody, then N readers, then N that do not read follow it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import tempfile
import tracemalloc
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

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
_BATCHES = 1000


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
    before = _used()
    async with asyncio.TaskGroup() as tasks:
        following = [tasks.create_task(log.count(last)) for _ in range(followers)]
        while len(log.bus._subscriptions.get(log.run_key, ())) < followers:  # noqa: ASYNC110, SLF001 - the bus tells nobody
            await asyncio.sleep(0)
        waiting, begin = _used() - before, perf_counter()
        for _ in range(_BATCHES):
            await log.append(*[EventType.CONTENT_DELTA] * _BATCH)
        await log.append(EventType.RUN_COMPLETED)
        peak = _used() - before
    seconds = perf_counter() - begin
    if {task.result() for task in following} != {_BATCHES * _BATCH + 1}:
        message = "a follower did not get every event once"
        raise RuntimeError(message)
    delivered = followers * (_BATCHES * _BATCH + 1)
    return (
        f"{followers} that read: {waiting / followers / 1e3:.1f} kB each while they wait, {peak / 1e6:.1f} MB for all "
        f"at the end of {_BATCHES * _BATCH} events, {delivered / seconds:,.0f} events delivered per second"
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
        for line in asyncio.run(measure(folder, options.followers)):
            sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
