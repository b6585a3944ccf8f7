"""Many followers of one run: each gets every event once and in order, and one that does not read costs no memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.support.caller import body_of, confirming
from tests.support.frames import Frame, iterate_frames
from tests.support.gates import Gates
from tests.support.processes import DEADLINE, Barrier, ServerProcess
from tests.support.server import Server, served
from tests.support.toolbox import plan
from unpause.domain.events import Event, EventType
from unpause.store.events import add_events
from unpause.store.runs import append_to_log
from unpause.streaming.bus import InProcessBus, Subscription

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

FOLLOWERS = 1000
# Each of them reads the log once at the start, which takes a server longer than a file.
FOLLOWERS_ON_POSTGRESQL = 200
STREAMS = 100
AGENTS = Path(__file__).parents[1] / "processes" / "agents_file.py"

HOLD = plan([("hold", {"name": "door"})], *([("note", {"text": str(number)})] for number in range(5)))
# The key of the only run of a test here.
RUN = 1
# What the bus keeps for one follower, in batches.
BACKLOG = 512


@pytest.fixture
def gates() -> Gates:
    return Gates("door")


@pytest.fixture
async def server(tmp_path: Path, database_url: str, gates: Gates) -> AsyncIterator[Server]:
    async with served(tmp_path, gates=gates, database_url=database_url) as server:
        yield server


async def hold_a_run(server: Server, gates: Gates) -> int:
    """Make a run and bring it, in its second segment, to the gate; return the number of its pause."""
    run = await server.create(HOLD)
    body_of(await server.post_continue(run, confirming(run), background="true"), 202)
    await gates.reached("door")
    return (await follow(server, 0))[-1].sequence


async def follow(server: Server, after: int) -> list[Event]:
    """Return the run's events after a number, to the end of the segment."""
    return [event async for event in server.application.follower.follow_run(RUN, after)]


async def test_many_followers_wherever_they_begin_get_every_event_once_and_in_order(
    server: Server, gates: Gates
) -> None:
    count = FOLLOWERS_ON_POSTGRESQL if server.application.database.is_shared else FOLLOWERS
    paused = await hold_a_run(server, gates)
    async with asyncio.TaskGroup() as tasks:
        following = [tasks.create_task(follow(server, paused + number % 3)) for number in range(count)]
        await server.followed_by(count)
        gates.open("door")
    whole = following[0].result()
    assert [event.sequence for event in whole] == list(range(paused + 1, paused + 1 + len(whole)))
    assert whole[-1].type is EventType.RUN_COMPLETED
    assert len(whole) > 20
    for number, task in enumerate(following):
        assert task.result() == whole[number % 3 :]


async def test_followers_that_come_while_events_are_committed_miss_none(server: Server, gates: Gates) -> None:
    paused = await hold_a_run(server, gates)
    following: list[asyncio.Task[list[Event]]] = []
    async with asyncio.TaskGroup() as tasks:
        gates.open("door")
        for _ in range(200):
            following.append(tasks.create_task(follow(server, paused)))
            await asyncio.sleep(0)  # a turn for the run
    assert len({tuple(event.sequence for event in task.result()) for task in following}) == 1
    assert following[0].result()[-1].type is EventType.RUN_COMPLETED


async def test_a_follower_that_stops_reading_holds_a_bounded_backlog_and_catches_up_from_the_log(
    server: Server, gates: Gates
) -> None:
    paused = await hold_a_run(server, gates)
    bus = bus_of(server)
    events = server.application.follower.follow_run(RUN, paused)
    async with aclosing(events) as slow:
        seen = [await anext(slow)]
        (subscription,) = bus._subscriptions[RUN]  # noqa: SLF001 - what it holds is the question here
        sizes = set()
        for _ in range(4):
            await commit_by_threes(server, bus, BACKLOG // 2)
            sizes.add(backlog_of(subscription))
        assert max(sizes) <= BACKLOG
        assert backlog_of(subscription) == BACKLOG, "so that batches were dropped"
        gates.open("door")
        # The run ends before the follower reads on, so that the end is among what it was not handed.
        whole = await follow(server, paused)
        assert backlog_of(subscription) == BACKLOG
        seen += [event async for event in slow]
    assert seen == whole
    assert [event.sequence for event in seen] == list(range(paused + 1, paused + 1 + len(seen)))
    assert len(seen) > 4 * 3 * (BACKLOG // 2)
    assert RUN not in bus._subscriptions, "and nothing is left of it"  # noqa: SLF001 - as above


def bus_of(server: Server) -> InProcessBus:
    """Return the server's bus."""
    bus = server.application.follower._bus  # noqa: SLF001 - no server needs it from outside
    assert isinstance(bus, InProcessBus)
    return bus


def backlog_of(subscription: Subscription) -> int:
    """Return how many batches wait for the follower."""
    return len(subscription._batches)  # noqa: SLF001 - what it holds is the question here


async def commit_by_threes(server: Server, bus: InProcessBus, batches: int) -> None:
    """Add three times so many events to the run's log and announce them by threes."""
    now = server.clock.now()

    def unit(connection: Connection) -> tuple[Event, ...]:
        last = append_to_log(connection, RUN, 3 * batches, now)
        event = Event(EventType.CONTENT_DELTA, now, {"content": "x"})
        return add_events(connection, RUN, [event] * (3 * batches), last)

    added = await server.application.database.write(unit)
    for first in range(0, len(added), 3):
        bus.publish(RUN, added[first : first + 3])


async def test_100_streams_over_http_get_every_event_once_even_those_that_read_late(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, "--agents", AGENTS) as server, Barrier(tmp_path, "crowd") as door:
        everywhere = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(
            base_url=server.address, timeout=DEADLINE, trust_env=False, limits=everywhere
        ) as client:
            form = {"message": "think crowd: write seen, write again", "background": "true"}
            run = body_of(await client.post("/agents/scripted/runs", data=form), 202)
            await asyncio.to_thread(door.wait_for_arrival)
            attached, ended = asyncio.Barrier(STREAMS + 1), asyncio.Event()
            path = f"/agents/scripted/runs/{run['run_id']}/events"
            async with asyncio.TaskGroup() as tasks:
                following = [
                    tasks.create_task(read_stream(client, path, attached, ended if number % 10 == 0 else None))
                    for number in range(STREAMS)
                ]
                await attached.wait()
                door.let_go()
                while (await client.get(path.removesuffix("/events"))).json()["status"] != "COMPLETED":
                    pass
                ended.set()
            whole = following[0].result()
    assert [frame.id for frame in whole] == [str(number) for number in range(1, len(whole) + 1)]
    assert whole[-1].event == "RunCompleted"
    assert all(task.result() == whole for task in following)


async def read_stream(
    client: httpx.AsyncClient, path: str, attached: asyncio.Barrier, ended: asyncio.Event | None
) -> list[Frame]:
    """Read the stream to its end; after the first line wait for the others, and where given for the run's end."""
    lines: list[str] = []
    async with client.stream("GET", path) as response:
        reading: AsyncIterator[Any] = response.aiter_lines()
        lines.append(await anext(reading))
        await attached.wait()
        if ended is not None:
            await ended.wait()
        lines += [line async for line in reading]
    return list(iterate_frames(lines))
