"""Leases are renewed whatever the event loop does, and a segment that lost its own is stopped without writing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Collection
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, select

from tests.support.databases import NOW, Place, PostgresServer, new_run
from tests.support.holding_driver import HoldingDriver
from tests.support.outages import away
from tests.support.reaching import reached, until
from tests.support.runs import start
from tests.support.serving import running
from tests.support.toolless import Toolless
from tests.support.webhook_server import once
from unpause.agents.driver import Completed, Journal, Segment, SegmentEnd
from unpause.domain.runs import RunStatus
from unpause.domain.transitions import Trigger
from unpause.errors import DatabaseUnavailable
from unpause.execution.heartbeat import Heartbeat
from unpause.store.engine.database import parse_url
from unpause.store.engine.schema import plain_engine
from unpause.store.leases import LeaseKeeper
from unpause.store.runs import transition
from unpause.store.tables import nodes, runs

_DEADLINE = 60
_LEASE = timedelta(seconds=0.3)
_NEVER = 3600.0


@dataclass
class BlockingDriver(Toolless):
    """Blocks the event loop until its run's lease was renewed a few times."""

    url: str
    leases: list[datetime] = field(default_factory=list)
    agent_id: str = "blocking"
    agent_name: str = "blocking"
    model_name: str = "blocking-1"
    model_provider: str = "tests"

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Look and sleep, and give way to nobody."""
        del journal
        deadline = time.monotonic() + _DEADLINE
        engine = plain_engine(self.url)
        while len(self.leases) < 4 and time.monotonic() < deadline:
            with engine.connect() as connection:
                lease = find_lease(connection, segment.run.id)
            if not self.leases or lease != self.leases[-1]:
                self.leases.append(lease)
            time.sleep(0.02)  # noqa: ASYNC251 - a tool that does just this is what the test is about
        engine.dispose()
        return Completed("done")


def find_lease(connection: Connection, run_key: int) -> datetime:
    found: datetime = connection.execute(select(runs.c.lease_expires_at).where(runs.c.id == run_key)).scalar_one()
    return found


async def test_leases_are_renewed_while_the_event_loop_is_blocked(tmp_path: Path, postgres_url: str) -> None:
    driver = BlockingDriver(postgres_url)
    settings: dict[str, Any] = {"lease_seconds": 1.0, "sweep_seconds": _NEVER}
    async with running(tmp_path, drivers=[driver], database_url=postgres_url, **settings) as application:
        run = await start(application)
        ended = await reached(application.database, run.id, RunStatus.COMPLETED)
    assert len(driver.leases) == 4
    assert driver.leases == sorted(driver.leases)
    assert (ended.fence, ended.lease_expires_at) == (1, None)


async def test_a_segment_whose_lease_is_lost_is_stopped_and_writes_nothing(tmp_path: Path, postgres_url: str) -> None:
    driver = HoldingDriver()
    settings: dict[str, Any] = {"lease_seconds": 0.3, "sweep_seconds": _NEVER, "poll_seconds": _NEVER}
    async with running(tmp_path, drivers=[driver], database_url=postgres_url, **settings) as application:
        run = await start(application)
        beside = await start(application)
        await driver.has_started(2)

        def taken_over(connection: Connection) -> None:
            transition(connection, run.id, Trigger.RELEASE, changes={"updated_at": NOW, "lease_expires_at": None})
            later = application.clock.now() + timedelta(hours=1)
            transition(connection, run.id, Trigger.CLAIM, changes={"updated_at": NOW, "lease_expires_at": later})

        await application.database.write(taken_over)
        before = rows_of(postgres_url, run.id)
        await until(lambda: driver.running[1] == 1)
        await until(lambda: application.executor.list_held() == [(beside.id, 1)])
        assert rows_of(postgres_url, run.id) == before
        assert before["runs"][0]["status"] == "RUNNING"
        assert before["runs"][0]["fence"] == 2
        # The other one is disturbed by nothing.
        await driver.let_go(beside.id)
        await reached(application.database, beside.id, RunStatus.COMPLETED)
        assert rows_of(postgres_url, run.id) == before


async def test_each_beat_records_how_many_runs_the_node_executes(tmp_path: Path, postgres_url: str) -> None:
    driver = HoldingDriver()
    settings: dict[str, Any] = {"lease_seconds": 0.6, "sweep_seconds": _NEVER, "poll_seconds": _NEVER}

    async def worker() -> int | None:
        return await application.database.read(lambda connection: connection.execute(select(nodes.c.running)).scalar())

    async with running(tmp_path, drivers=[driver], database_url=postgres_url, **settings) as application:
        await once(worker, lambda count: count == 0)
        first, second = await start(application), await start(application)
        await driver.has_started(2)
        await once(worker, lambda count: count == 2)
        for run in (first, second):
            await driver.let_go(run.id)
            await reached(application.database, run.id, RunStatus.COMPLETED)
        await once(worker, lambda count: count == 0)


def rows_of(url: str, run_key: int) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of one run."""
    return {
        name: [row for row in rows if row.get("run_key", row["id"] if name == "runs" else None) == run_key]
        for name, rows in Place(url).dump().items()
    }


async def test_segments_go_on_through_a_time_without_a_database(
    tmp_path: Path, postgres: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = HoldingDriver()
    # As soon as it is back, the lease is renewed and the run ends: also where the machine stands still now and then.
    monkeypatch.setattr("unpause.execution.heartbeat._RETRY_SECONDS", 0.1)
    monkeypatch.setattr("unpause.services.segment_journal._LAST_RETRY_SECONDS", 0.2)
    # Away for longer than a lease: there is somebody who would take the run back, and does not.
    settings: dict[str, Any] = {"lease_seconds": 5.0, "sweep_seconds": 0.1, "poll_seconds": 0.1}
    async with running(tmp_path, drivers=[driver], database_url=postgres_url, **settings) as application:
        run = await start(application)
        await driver.has_started(1)
        with away(postgres, postgres_url):
            await asyncio.sleep(5.5)
            await driver.let_go()
            await asyncio.sleep(0.1)
        ended = await reached(application.database, run.id, RunStatus.COMPLETED)
    assert (ended.fence, ended.crashes, driver.started) == (1, 0, [run.id])


# -------------------------------------------------------------------------------- the thread alone


class Held:
    """An executor that holds what the test says."""

    def __init__(self, *held: tuple[int, int]) -> None:
        self.held = list(held)

    def list_held(self) -> list[tuple[int, int]]:
        """Return it."""
        return list(self.held)


class Keeper:
    """A keeper that does one thing after the other: raise, or say what is still held."""

    def __init__(self, *answers: Exception | set[int]) -> None:
        self.answers = list(answers)
        self.renewals = 0
        self.closed = False

    def renew(self, held: Collection[tuple[int, int]], lease: timedelta) -> set[int]:
        """Do the next thing; after the last one all is held."""
        assert lease == _LEASE
        self.renewals += 1
        sent = self.answers.pop(0) if self.answers else {key for key, _ in held}
        if isinstance(sent, Exception):
            raise sent
        return sent

    def close(self) -> None:
        """Note it."""
        self.closed = True


def heartbeat(keeper: Any, held: Held) -> Heartbeat:  # noqa: ANN401 - a real one or that of these tests
    return Heartbeat(keeper, held, _LEASE)  # type: ignore[arg-type] # what it has of an executor


async def test_what_is_held_no_more_is_told_and_nothing_else() -> None:
    keeper, held = Keeper({1}), Held((1, 5), (2, 7), (3, 1))
    lost: list[int] = []
    async with heartbeat(keeper, held).beating(lost.append):
        await until(lambda: len(lost) == 2)
        held.held = [(1, 5)]
        now = keeper.renewals
        await until(lambda: keeper.renewals > now + 1)
    assert sorted(lost) == [2, 3]


async def test_a_run_that_ended_while_its_lease_was_renewed_is_not_lost() -> None:
    held = Held((1, 5), (2, 7))
    lost: list[int] = []

    class Ending(Keeper):
        def renew(self, held_then: Collection[tuple[int, int]], lease: timedelta) -> set[int]:
            # One ends, the other is here again under the fence of another claim.
            held.held = [(2, 8)]
            return super().renew(held_then, lease)

    keeper = Ending(set())
    async with heartbeat(keeper, held).beating(lost.append):
        await until(lambda: keeper.renewals > 1)
    assert lost == []


async def test_a_run_claimed_here_again_before_its_old_lease_is_reported_lost_is_not_stopped() -> None:
    held = Held((1, 5), (2, 7))
    lost: list[int] = []
    keeper = Keeper(set())
    async with heartbeat(keeper, held).beating(lost.append):
        # The loop is busy while the thread finds out, and claims the run before it hears of that.
        deadline = time.monotonic() + _DEADLINE
        while not keeper.renewals and time.monotonic() < deadline:
            time.sleep(0.01)  # noqa: ASYNC251 - see above
        time.sleep(0.1)  # noqa: ASYNC251 - for the thread to report what it found
        held.held = [(1, 5), (2, 8)]
        await until(lambda: lost)
    assert lost == [1]


@pytest.mark.parametrize("error", [DatabaseUnavailable(), LookupError(), OSError()])
async def test_whatever_goes_wrong_the_heart_beats_on_and_nothing_is_given_up(error: Exception) -> None:
    keeper = Keeper(error, error)
    lost: list[int] = []
    async with heartbeat(keeper, Held((1, 5))).beating(lost.append):
        await until(lambda: keeper.renewals >= 4)
    assert lost == []


def ignored(run_key: int) -> None:
    """Nobody asks what was lost."""
    del run_key


async def test_who_holds_nothing_asks_nobody() -> None:
    keeper, held = Keeper(), Held()
    async with heartbeat(keeper, held).beating(ignored):
        await asyncio.sleep(2 * _LEASE.total_seconds())
        assert keeper.renewals == 0
        held.held = [(1, 1)]
        await until(lambda: keeper.renewals)


async def test_the_thread_ends_with_the_block_and_the_connection_is_closed() -> None:
    keeper = Keeper()
    async with heartbeat(keeper, Held((1, 1))).beating(ignored):
        assert "heartbeat" in {thread.name for thread in threading.enumerate()}
    assert "heartbeat" not in {thread.name for thread in threading.enumerate()}
    assert keeper.closed


async def test_what_was_lost_while_the_database_was_away_is_told_when_it_is_back(
    postgres: PostgresServer, postgres_url: str
) -> None:
    engine = plain_engine(postgres_url)
    with engine.begin() as connection:
        kept, gone = (new_run(connection, RunStatus.RUNNING, fence=1, lease_expires_at=NOW).id for _ in range(2))
    lost: list[int] = []
    with closing(LeaseKeeper(parse_url(postgres_url))) as keeper:
        async with heartbeat(keeper, Held((kept, 1), (gone, 1))).beating(lost.append):
            await until(lambda: leases(engine, kept, gone)[0] > NOW)
            with away(postgres, postgres_url):
                await asyncio.sleep(2 * _LEASE.total_seconds())
            with engine.begin() as connection:
                transition(connection, gone, Trigger.CANCEL, changes={"updated_at": NOW})
            await until(lambda: lost)
            before = leases(engine, kept, gone)[0]
            await until(lambda: leases(engine, kept, gone)[0] > before)
    assert set(lost) == {gone}
    engine.dispose()


def leases(engine: Engine, *keys: int) -> list[datetime]:
    try:
        with engine.connect() as connection:
            return [find_lease(connection, key) for key in keys]
    finally:
        # The pool would keep a connection that was cut.
        engine.dispose()
