"""What an executing run writes is written once, however often the database goes away while it is being written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support.databases import NOW, Place, PostgresServer
from tests.support.executor_database import ExecutorDatabase
from tests.support.holding_driver import HoldingDriver
from tests.support.outages import away
from tests.support.reaching import reached
from tests.support.runs import answer, start
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import application_for, running, settings_for
from tests.support.toolless import Toolless
from unpause.agents.driver import AgentDriver, CallResult, Completed, Journal, NewMessage, ProposedCall, Segment
from unpause.agents.driver import SegmentEnd as End
from unpause.bootstrap import Application
from unpause.domain.events import Event, EventType
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import Outcome, RunStatus
from unpause.domain.transitions import Trigger
from unpause.errors import DatabaseUnavailable
from unpause.services import segment_journal
from unpause.store.engine.database import Connection
from unpause.store.events import add_events
from unpause.store.runs import transition

T = TypeVar("T")
Unit = Callable[[Connection], Any]
Write = Callable[[Unit], Awaitable[Any]]

_DELTA = EventType.CONTENT_DELTA
_KINDS = [
    "run_started",
    "model_request_started",
    "model_request_completed",
    "content_completed",
    "run_paused",
    "run_continued",
    "tool_call_started",
    "tool_call_completed",
    "model_request_started",
    "content_delta",
    "model_request_completed",
    "content_completed",
    "run_completed",
]


class Unreliable(ExecutorDatabase):
    """A database that goes away as the test says, each time the recorder writes; all others find it as ever."""

    def __init__(self, application: Application, disturbed: Callable[[Write, Unit], Awaitable[Any]]) -> None:
        super().__init__(application)
        self._disturbed = disturbed

    async def append(self, unit: Unit) -> Any:  # noqa: ANN401 - what the unit returns
        """Write as the test says."""
        return await self._disturbed(self._database.append, unit)

    async def write(self, unit: Unit, *then: Callable[[Any], None], waits: bool = True) -> Any:  # noqa: ANN401 - what the unit returns
        """Write as the test says, if it is the recorder's."""
        write = partial(self._database.write, waits=waits)
        return await (self._disturbed(write, unit) if isinstance(unit, partial) else write(unit, *then))


def disturb(application: Application, disturbed: Callable[[Write, Unit], Awaitable[Any]]) -> None:
    """Let what executing runs write pass through this from now on."""
    Unreliable(application, disturbed)


class Losing:
    """Every write fails a few times before it works: nothing was written, or it was and nobody was told."""

    def __init__(self, failures: int, *, after: bool) -> None:
        self._failures = failures
        self._after = after
        self._left: dict[object, int] = {}
        self.lost = 0

    async def __call__(self, write: Write, unit: Unit) -> Any:  # noqa: ANN401 - what the unit returns
        """Fail or write."""
        # The same function again is the same write.
        assert isinstance(unit, partial)
        which = unit.func
        left = self._left[which] = self._left.get(which, self._failures) - 1
        if left < 0:
            return await write(unit)
        self.lost += 1
        if self._after:
            await write(unit)
        raise DatabaseUnavailable


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon."""
    monkeypatch.setattr(segment_journal, "_FIRST_RETRY_SECONDS", 0.01)
    monkeypatch.setattr(segment_journal, "_LAST_RETRY_SECONDS", 0.05)


async def cycle(folder: Path, disturbed: Losing) -> tuple[dict[str, list[Any]], list[str]]:
    """Run through a pause and to the end; return the log and the journal that stay, and what was executed."""
    executed: list[str] = []

    def tool(prompt: str) -> str:
        executed.append(prompt)
        return "done"

    async with running(folder, drivers=[ScriptedDriver(tool)]) as application:
        disturb(application, disturbed)
        run = await start(application)
        await reached(application.database, run.id, RunStatus.PAUSED)
        await answer(application, run, ToolAnswer(f"call-{run.id}", confirmed=True))
        ended = await reached(application.database, run.id, RunStatus.COMPLETED)
    rows = Place.in_folder(folder).dump()
    assert ended.last_sequence == len(rows["events"])
    return {
        "events": [(row["sequence"], row["type"]) for row in rows["events"]],
        "messages": [(row["position"], row["native"]) for row in rows["messages"]],
        "calls": [(row["tool_call_id"], row["status"], row["result_text"]) for row in rows["tool_calls"]],
        "requirements": [(row["position"], row["decision"]) for row in rows["requirements"]],
    }, executed


@pytest.mark.parametrize("after", [False, True], ids=["nothing was written", "nobody was told"])
@pytest.mark.parametrize("failures", [1, 3])
async def test_however_often_the_database_goes_away_all_is_written_once(
    tmp_path: Path, failures: int, *, after: bool
) -> None:
    losing = Losing(failures, after=after)
    kept, executed = await cycle(tmp_path, losing)
    assert losing.lost >= 4
    assert executed == ["hello"]
    kinds = [kind for _, kind in kept["events"]]
    assert [sequence for sequence, _ in kept["events"]] == list(range(1, len(kinds) + 1))
    assert kinds == _KINDS
    assert kept["calls"] == [("call-1", "finished", "done")]
    assert [position for position, _ in kept["messages"]] == [0, 1, 2]
    assert kept["requirements"] == [(0, "confirmed")]


@dataclass
class SteppingDriver(Toolless):
    """Does what the test wrote down."""

    steps: Callable[[Journal], Awaitable[End]]
    agent_id: str = "stepping"
    agent_name: str = "stepping"
    model_name: str = "stepping-1"
    model_provider: str = "tests"
    raised: list[BaseException] = field(default_factory=list)

    async def run_segment(self, segment: Segment, journal: Journal) -> End:
        """Do it, and note what comes of it."""
        del segment
        try:
            return await self.steps(journal)
        except BaseException as error:
            self.raised.append(error)
            raise


@asynccontextmanager
async def built(folder: Path, driver: AgentDriver) -> AsyncIterator[Application]:
    """Have an application that executes nothing by itself."""
    application = application_for(settings_for(folder), [driver])
    async with application.database.opened():
        yield application


async def test_who_took_a_run_over_while_the_database_was_away_is_not_mistaken_for_oneself(tmp_path: Path) -> None:
    executed: list[str] = []

    async def steps(journal: Journal) -> End:
        journal.record_turn([NewMessage("first", ())], [ProposedCall("call", "tool", {})])
        await journal.start_call("call", idempotent=False)
        executed.append("call")
        await journal.finish_call("call", CallResult(Outcome.SUCCESS, "done", "done"))
        return Completed("done")

    driver = SteppingDriver(steps)
    async with built(tmp_path, driver) as application:
        run = await start(application)

        def taken_over(connection: Connection) -> None:
            transition(connection, run.id, Trigger.RELEASE, changes={"updated_at": NOW})
            claimed = transition(connection, run.id, Trigger.CLAIM, changes={"updated_at": NOW, "events": 2}).run
            add_events(connection, run.id, [Event(_DELTA, NOW)] * 2, claimed.last_sequence)

        tries: list[Unit] = []

        async def away_for_long(write: Write, unit: Unit) -> Any:  # noqa: ANN401 - what the unit returns
            tries.append(unit)
            if len(tries) > 1:
                return await write(unit)
            await application.database.write(taken_over)
            raise DatabaseUnavailable

        disturb(application, away_for_long)
        assert not await application.executor.execute(run.id)
        found = await reached(application.database, run.id, RunStatus.RUNNING)
    rows = Place.in_folder(tmp_path).dump()
    assert [type(error).__name__ for error in driver.raised] == ["LeaseLost"]
    assert executed == []
    assert (found.fence, found.last_sequence) == (2, 3)
    assert [row["type"] for row in rows["events"]] == ["run_started", "content_delta", "content_delta"]
    assert rows["messages"] == rows["tool_calls"] == []


async def test_the_end_of_a_segment_is_written_after_what_came_before_it(tmp_path: Path) -> None:
    waiting, may_write = asyncio.Event(), asyncio.Event()

    async def steps(journal: Journal) -> End:
        journal.record_turn([NewMessage("first", ())], [])
        await journal.emit(_DELTA, {"content": "word"})
        await waiting.wait()
        return Completed("done")

    async with built(tmp_path, SteppingDriver(steps)) as application:
        run = await start(application)
        slow: list[Unit] = []

        async def slowly(write: Write, unit: Unit) -> Any:  # noqa: ANN401 - what the unit returns
            slow.append(unit)
            if len(slow) == 1:
                waiting.set()
                await may_write.wait()
            return await write(unit)

        disturb(application, slowly)
        executing = asyncio.create_task(application.executor.execute(run.id))
        await waiting.wait()
        # Time to overtake it, for who would.
        await asyncio.wait([executing], timeout=0.2)
        may_write.set()
        assert not await executing
        await reached(application.database, run.id, RunStatus.COMPLETED)
    rows = Place.in_folder(tmp_path).dump()
    assert [row["type"] for row in rows["events"]] == ["run_started", "content_delta", "run_completed"]
    assert [row["native"] for row in rows["messages"]] == ["first"]


async def test_what_came_after_a_write_that_has_failed_so_far_is_kept_behind_it_and_once(tmp_path: Path) -> None:
    failing, recorded = asyncio.Event(), asyncio.Event()

    async def steps(journal: Journal) -> End:
        journal.record_turn([NewMessage("first", ())], [])
        await journal.emit(_DELTA)
        await failing.wait()
        journal.record_turn([NewMessage("second", ())], [])
        recorded.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with built(tmp_path, SteppingDriver(steps)) as application:
        run = await start(application)

        async def always_away(write: Write, unit: Unit) -> Any:  # noqa: ANN401 - what the unit returns
            del write, unit
            failing.set()
            raise DatabaseUnavailable

        disturb(application, always_away)
        executing = asyncio.create_task(application.executor.execute(run.id))
        await recorded.wait()
        executing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await executing
        # To give it back is no part of what the recorder tries again: that found the database.
        await reached(application.database, run.id, RunStatus.PENDING)
    rows = Place.in_folder(tmp_path).dump()
    assert [row["native"] for row in rows["messages"]] == ["first", "second"]
    assert [row["type"] for row in rows["events"]] == ["run_started", "content_delta"]


async def test_a_flush_that_fails_for_good_while_the_driver_ends_ends_the_run_as_an_error(tmp_path: Path) -> None:
    failing = asyncio.Event()

    async def steps(journal: Journal) -> End:
        await journal.emit(_DELTA)
        await failing.wait()
        return Completed("done")

    async with built(tmp_path, SteppingDriver(steps)) as application:
        run = await start(application)
        written: list[Unit] = []

        async def broken(write: Write, unit: Unit) -> Any:  # noqa: ANN401 - what the unit returns
            written.append(unit)
            if len(written) > 1:
                return await write(unit)
            failing.set()
            await asyncio.sleep(0.05)
            raise LookupError

        disturb(application, broken)
        await application.executor.execute(run.id)
        ended = await reached(application.database, run.id, RunStatus.ERROR)
    assert ended.content == "The agent failed: LookupError"


@pytest.mark.parametrize("moment", ["while it runs", "at its end"])
async def test_a_run_goes_on_once_its_database_is_back(
    tmp_path: Path, postgres: PostgresServer, postgres_url: str, moment: str
) -> None:
    driver = HoldingDriver()
    settings: dict[str, Any] = {"sweep_seconds": 3600.0, "poll_seconds": 0.1}
    async with running(tmp_path, drivers=[driver], database_url=postgres_url, **settings) as application:
        run = await start(application)
        if moment == "at its end":
            await driver.has_started(1)
        following = asyncio.create_task(followed(application, run.id))
        with away(postgres, postgres_url):
            await driver.let_go()
            await asyncio.sleep(1.0)
        ended = await reached(application.database, run.id, RunStatus.COMPLETED)
        seen = await following
    assert (ended.fence, ended.content) == (1, "hello")
    # Whoever followed it heard nothing for a while, and then the rest.
    assert seen == [(1, "run_started"), (2, "content_delta"), (3, "run_completed")]


async def followed(application: Application, run_key: int) -> list[tuple[int, str]]:
    async with asyncio.timeout(60):
        return [(event.sequence, event.type.value) async for event in application.follower.follow_run(run_key, 0)]


async def test_a_driver_that_emits_faster_than_the_database_commits_waits_for_it(tmp_path: Path) -> None:
    away, may_write = asyncio.Event(), asyncio.Event()
    emitted = 0

    async def steps(journal: Journal) -> End:
        nonlocal emitted
        await journal.emit(_DELTA)
        await away.wait()
        for _ in range(5000):
            await journal.emit(_DELTA)
            emitted += 1
        return Completed("done")

    async with built(tmp_path, SteppingDriver(steps)) as application:
        run = await start(application)

        async def slowly(write: Write, unit: Unit) -> Any:  # noqa: ANN401 - what the unit returns
            away.set()
            await may_write.wait()
            return await write(unit)

        disturb(application, slowly)
        executing = asyncio.create_task(application.executor.execute(run.id))
        await away.wait()
        await asyncio.wait([executing], timeout=0.1)
        assert emitted < 2500, "the server would keep without bounds what it cannot write"
        may_write.set()
        assert not await executing
        found = await reached(application.database, run.id, RunStatus.COMPLETED)
    assert found.last_sequence == 5003


async def test_messages_without_an_event_are_written_once_where_nobody_was_told(tmp_path: Path) -> None:
    async def steps(journal: Journal) -> End:
        await journal.emit(_DELTA)
        await journal.flush()
        for number in range(2):
            journal.record_turn([NewMessage(f"message {number}", ())], [ProposedCall(f"call {number}", "tool", {})])
            await journal.flush()
        return Completed("done")

    async with built(tmp_path, SteppingDriver(steps)) as application:
        run = await start(application)
        disturb(application, Losing(1, after=True))
        await application.executor.execute(run.id)
        await reached(application.database, run.id, RunStatus.COMPLETED, RunStatus.ERROR)
    rows = Place.in_folder(tmp_path).dump()
    assert rows["runs"][0]["status"] == "COMPLETED"
    assert [row["native"] for row in rows["messages"]] == ["message 0", "message 1"]
    assert [row["tool_call_id"] for row in rows["tool_calls"]] == ["call 0", "call 1"]
