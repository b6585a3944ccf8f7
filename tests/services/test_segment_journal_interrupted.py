"""A write of an executing run that is interrupted, whatever becomes of it, takes nothing along that happened before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic_ai import Agent

from tests.services.test_segment_journal_without_a_database import SteppingDriver, built, disturb
from tests.support.agents import Call, ScriptedModel
from tests.support.databases import Place
from tests.support.executor_database import ExecutorDatabase
from tests.support.reaching import reached, until
from tests.support.runs import start
from tests.support.serving import running
from unpause.agents.driver import CallResult, Completed, Journal, NewMessage, ProposedCall, SegmentEnd
from unpause.bootstrap import Application
from unpause.domain.events import Event, EventType
from unpause.domain.runs import Outcome, Run, RunStatus, RunView
from unpause.errors import DatabaseUnavailable
from unpause.services import segment_journal
from unpause.store.engine.database import Connection

T = TypeVar("T")
Unit = Callable[[Connection], Any]


class LateDatabase(ExecutorDatabase):
    """The database of the executor: once tools have returned, two writes of what runs append are late."""

    def __init__(self, application: Application, *, fails: bool, after: bool) -> None:
        self._fails = fails
        self._after = after
        self.late = (asyncio.Event(), asyncio.Event())
        self.is_late = False
        super().__init__(application)

    async def append(self, unit: Unit) -> Any:  # noqa: ANN401 - what the unit returns
        """Write as the test says."""
        following = next((event for event in self.late if not event.is_set()), None)
        if not self.is_late or following is None:
            return await self._database.append(unit)
        following.set()
        if following is self.late[0] or not self._fails:
            return await _outlasting(self._late(unit))
        if self._after:
            await self._database.append(unit)
        raise DatabaseUnavailable

    async def _late(self, unit: Unit) -> Any:  # noqa: ANN401 - what the unit returns
        await asyncio.sleep(0.2)
        return await self._database.append(unit)


async def _outlasting(work: Awaitable[T]) -> T:
    """Do as the database itself: who is cancelled waits for the result all the same."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def stopped_at(moment: asyncio.Event, application: Application, run: Run) -> None:
    """Execute the run until the moment, and then stop it; return once it is given back."""
    executing = asyncio.create_task(application.executor.execute(run.id))
    await moment.wait()
    executing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await executing
    await reached(application.database, run.id, RunStatus.PENDING)


LATE = {
    "it takes long": {"fails": False, "after": False},
    "the database is away": {"fails": True, "after": False},
    "nobody was told": {"fails": True, "after": True},
}


@pytest.mark.parametrize("framed", [False, True])
@pytest.mark.parametrize("late", LATE)
async def test_a_run_that_pauses_while_the_end_of_a_call_is_written_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: str, *, framed: bool
) -> None:
    if framed:
        monkeypatch.setenv("UNPAUSE_TEST_FRAMED", "1")
    monkeypatch.setattr(segment_journal, "_FIRST_RETRY_SECONDS", 0.3)
    agent = Agent(ScriptedModel([Call("first"), Call("second"), Call("third"), Call("ask")]).model, name="agent")
    databases: list[LateDatabase] = []
    running_tools: list[str] = []

    async def all_run(name: str) -> None:
        running_tools.append(name)
        await until(lambda: len(running_tools) == 3)
        databases[0].is_late = True

    @agent.tool_plain
    async def first() -> str:
        await all_run("first")
        return "did it"

    @agent.tool_plain
    async def second() -> str:
        await all_run("second")
        await databases[0].late[0].wait()
        return "did it"

    @agent.tool_plain
    async def third() -> str:
        await all_run("third")
        await databases[0].late[1].wait()
        return "did it"

    @agent.tool_plain(requires_approval=True)
    def ask() -> str:
        return "asked"

    async with running(tmp_path, [agent]) as application:
        databases.append(LateDatabase(application, **LATE[late]))
        views: list[RunView | None] = []
        bus = application.executor._context.bus  # noqa: SLF001 - where the journal publishes
        publish = bus.publish

        def published(run_key: int, added: Sequence[Event], end_view: RunView | None = None) -> None:
            views.append(end_view)
            publish(run_key, added, end_view)

        monkeypatch.setattr(bus, "publish", published)
        run = await start(application)
        events = [event async for event in application.follower.follow_run(run.id, 0)]
        await reached(application.database, run.id, RunStatus.PAUSED)
    rows = Place.in_folder(tmp_path).dump()
    expected = {"first": "finished", "second": "finished", "third": "finished", "ask": "proposed"}
    assert {row["tool_name"]: row["status"] for row in rows["tool_calls"]} == expected
    assert [event.sequence for event in events] == [row["sequence"] for row in rows["events"]]
    assert [event.type.value for event in events].count("tool_call_completed") == 3
    assert len(rows["messages"]) == 2
    assert views[-1] is not None
    assert {call.tool_name: call.status.value for call in views[-1].tool_calls} == expected


async def test_a_call_that_ended_at_its_second_start_is_not_given_back_as_one_that_never_began(tmp_path: Path) -> None:
    state, failing = {"is": "up"}, asyncio.Event()

    async def steps(journal: Journal) -> SegmentEnd:
        journal.record_turn([NewMessage("first", ())], [ProposedCall("c", "act", {})])
        await journal.flush()
        state["is"] = "slow"
        with pytest.raises(TimeoutError):
            # An author's hook around its tools has a limit of time, and tries again.
            async with asyncio.timeout(0.05):
                await journal.start_call("c", idempotent=False)
        state["is"] = "up"
        await journal.start_call("c", idempotent=False)
        await journal.finish_call("c", CallResult(Outcome.SUCCESS, "did it", "did it"))
        state["is"] = "away"
        await journal.emit(EventType.CONTENT_DELTA)
        await asyncio.Event().wait()
        raise AssertionError

    async with built(tmp_path, SteppingDriver(steps)) as application:
        run = await start(application)

        async def disturbed(write: Callable[[Unit], Awaitable[Any]], unit: Unit) -> Any:  # noqa: ANN401 - what the unit returns
            if state["is"] == "slow":
                await asyncio.sleep(1)
            if state["is"] == "away":
                failing.set()
                raise DatabaseUnavailable
            return await write(unit)

        disturb(application, disturbed)
        await stopped_at(failing, application, run)
    (call,) = Place.in_folder(tmp_path).dump()["tool_calls"]
    assert (call["status"], call["result"]) == ("finished", "did it")


@pytest.mark.parametrize("is_committed", [False, True])
async def test_a_stop_keeps_the_ends_of_calls_behind_a_write_of_which_nobody_was_told_whether_it_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_committed: bool
) -> None:
    monkeypatch.setattr(segment_journal, "_FIRST_RETRY_SECONDS", 60)
    state, failed = {"is": "up"}, asyncio.Event()
    did = CallResult(Outcome.SUCCESS, "did it", "did it")

    async def steps(journal: Journal) -> SegmentEnd:
        journal.record_turn([NewMessage("first", ())], [ProposedCall(name, "act", {}) for name in "abc"])
        await journal.start_call("a", idempotent=False)
        await journal.start_call("b", idempotent=False)
        state["is"] = "away"
        journal.finish_call_soon("a", did)
        await failed.wait()
        state["is"] = "up"
        journal.finish_call_soon("b", did)
        # A third that does not start: it waits for the write before.
        await journal.start_call("c", idempotent=False)
        raise AssertionError

    async with built(tmp_path, SteppingDriver(steps)) as application:
        run = await start(application)

        async def disturbed(write: Callable[[Unit], Awaitable[Any]], unit: Unit) -> Any:  # noqa: ANN401 - what the unit returns
            if state["is"] == "away":
                if is_committed:
                    await write(unit)
                failed.set()
                raise DatabaseUnavailable
            return await write(unit)

        disturb(application, disturbed)
        executing = asyncio.create_task(application.executor.execute(run.id))
        await failed.wait()
        await until(lambda: state["is"] == "up")
        executing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await executing
        await reached(application.database, run.id, RunStatus.PENDING)
    rows = Place.in_folder(tmp_path).dump()
    assert [call["status"] for call in rows["tool_calls"]] == ["finished", "finished", "proposed"]
    assert len(rows["messages"]) == 1
    types = [row["type"] for row in rows["events"]]
    assert types.count("tool_call_completed") == 2
    assert [row["sequence"] for row in rows["events"]] == list(range(1, len(types) + 1))


async def test_a_stop_that_interrupts_the_end_of_a_run_says_nothing_of_that_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_journal, "_FIRST_RETRY_SECONDS", 60)
    state, failed = {"is": "up"}, asyncio.Event()

    async def steps(journal: Journal) -> SegmentEnd:
        await journal.emit(EventType.CONTENT_DELTA, {"text": "hello"})
        await journal.flush()
        state["is"] = "away"
        return Completed("hello", "str", {})

    async with built(tmp_path, SteppingDriver(steps)) as application:
        run = await start(application)

        async def disturbed(write: Callable[[Unit], Awaitable[Any]], unit: Unit) -> Any:  # noqa: ANN401 - what the unit returns
            if state["is"] == "away":
                state["is"] = "up"
                failed.set()
                raise DatabaseUnavailable
            return await write(unit)

        disturb(application, disturbed)
        await stopped_at(failed, application, run)
    assert "run_completed" not in [row["type"] for row in Place.in_folder(tmp_path).dump()["events"]]
