"""What one process has of the streaming, for tests of buses: the others are played by more of the same.

They share nothing but the database server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection

from tests.support.databases import NOW, new_run
from unpause.domain.events import Event, EventType
from unpause.domain.runs import RunStatus
from unpause.store.engine.database import Database, parse_url
from unpause.store.events import add_events
from unpause.store.runs import reserve_sequence
from unpause.streaming.bus import Bus, InProcessBus, Signal
from unpause.streaming.follow import Follower
from unpause.streaming.postgres import PostgresBus

DEADLINE = 60
POLL_SECONDS = 0.1
# No poll comes to the rescue.
NEVER = 3600.0

DELTA, END = EventType.CONTENT_DELTA, EventType.RUN_COMPLETED


@dataclass
class Node:
    """What one process has: a database, a bus, a follower; and what its bus told it."""

    database: Database
    bus: Bus
    received: list[tuple[Signal, int | None]] = field(default_factory=list)
    reported: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.follower = Follower(self.database, self.bus)
        self.bus.on_signal(self._on_signal)

    def _on_signal(self, signal: Signal, run_key: int | None) -> None:
        self.received.append((signal, run_key))
        self.reported.set()

    async def hears(self, signal: Signal, run_key: int | None) -> None:
        """Wait for the signal."""
        async with asyncio.timeout(DEADLINE):
            while (signal, run_key) not in self.received:
                self.reported.clear()
                await self.reported.wait()

    async def has_run(self) -> int:
        """Add a run that somebody executes, and return its key."""
        return await self.database.write(lambda connection: new_run(connection, RunStatus.RUNNING).id)

    async def commit(self, run_key: int, *types: EventType) -> tuple[Event, ...]:
        """Write events and tell nobody."""

        def unit(connection: Connection) -> tuple[Event, ...]:
            last = reserve_sequence(connection, run_key, 0, len(types), NOW).last
            return add_events(connection, run_key, [Event(kind, NOW) for kind in types], last)

        return await self.database.append(unit)

    async def append(self, run_key: int, *types: EventType) -> None:
        """Write events and announce them, as the recorder does."""
        self.bus.publish(run_key, await self.commit(run_key, *types))

    def follow(self, run_key: int, after: int = 0) -> Following:
        """Follow the run in the background."""
        return Following(self.follower, run_key, after)


class Following:
    """A follower at work: what it has seen so far, and how to wait for more."""

    def __init__(self, follower: Follower, run_key: int, after: int) -> None:
        self.seen: list[int] = []
        self._grown = asyncio.Event()
        self._task = asyncio.create_task(self._follow(follower, run_key, after))

    async def _follow(self, follower: Follower, run_key: int, after: int) -> None:
        async for event in follower.follow_run(run_key, after):
            self.seen.append(event.sequence)
            self._grown.set()

    async def has_seen(self, sequence: int) -> None:
        """Wait until the follower has come so far."""
        async with asyncio.timeout(DEADLINE):
            while sequence not in self.seen:
                self._grown.clear()
                await self._grown.wait()

    async def ends(self) -> list[int]:
        """Wait until the run has ended; return the numbers of all events seen."""
        async with asyncio.timeout(DEADLINE):
            await self._task
        return self.seen


@asynccontextmanager
async def node(url: str, poll_seconds: float = NEVER) -> AsyncIterator[Node]:
    """Run a bus on the database for the length of the block, which begins once it listens."""
    async with Database(url).opened() as database:
        bus: Bus = PostgresBus(database, parse_url(url), poll_seconds) if database.is_shared else InProcessBus()
        made = Node(database, bus)
        async with bus.running():
            if isinstance(bus, PostgresBus):
                # It cannot know what was said before, and says so.
                await made.hears(Signal.READY, None)
            yield made


@asynccontextmanager
async def nodes(url: str, count: int = 2, poll_seconds: float = NEVER) -> AsyncIterator[list[Node]]:
    """Run several."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(node(url, poll_seconds)) for _ in range(count)]
