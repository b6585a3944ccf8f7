"""How segments end when not all goes well: drivers that fail, agents that are gone, servers that stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.databases import Place
from tests.support.gates import Gates, working_agent
from tests.support.reaching import until
from tests.support.runs import ADA, follow, look, segments, start, start_and_follow
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import running
from tests.support.toolless import Toolless
from unpause.agents.driver import AgentDriver, Journal, NewMessage, ProposedCall, Segment, SegmentEnd
from unpause.domain.events import EventType
from unpause.domain.runs import CallStatus, EndReason, RunRef, RunStatus

_SECRET = "sk-very-secret"


def lookup_error() -> BaseException:
    return LookupError(f"key {_SECRET} is wrong")


def group() -> BaseException:
    return ExceptionGroup(_SECRET, [ValueError(_SECRET)])


@dataclass
class BrokenDriver(Toolless):
    """Tells a little, starts a call, and raises."""

    error: Callable[[], BaseException]
    agent_id: str = "broken"
    agent_name: str = "broken"
    model_name: str = "broken-1"
    model_provider: str = "tests"

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Raise."""
        del segment
        await journal.emit(EventType.MODEL_REQUEST_STARTED)
        journal.record_turn([NewMessage("first", ())], [ProposedCall("call", "tool", {})])
        await journal.start_call("call", idempotent=False)
        await journal.emit(EventType.CONTENT_DELTA, {"content": "half"})
        raise self.error()


@dataclass
class StubbornDriver(BrokenDriver):
    """Goes on when it is cancelled, until it has to write something."""

    error: Callable[[], BaseException] = LookupError
    began: asyncio.Event = field(default_factory=asyncio.Event)

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Wait to be cancelled."""
        try:
            self.began.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await super().run_segment(segment, journal)
        raise AssertionError


def tasks_of_segments() -> set[asyncio.Task[object]]:
    """Return the tasks that there are only while a run is executed."""
    names = ("segment of", "flush run", "drive run")
    return {task for task in asyncio.all_tasks() if task.get_name().startswith(names)}


@pytest.mark.parametrize("error", [lookup_error, group, asyncio.CancelledError, TimeoutError])
async def test_a_driver_that_raises_ends_its_run_alone_and_leaks_nothing(
    tmp_path: Path, error: Callable[[], BaseException]
) -> None:
    drivers: list[AgentDriver] = [BrokenDriver(error), ScriptedDriver()]
    async with running(tmp_path, drivers=drivers) as application:
        view = await start_and_follow(application)
        kinds = await segments(application, view.run)
        beside = await start(application, agent_id="scripted")
        await follow(application, beside)
        assert (await look(application, beside)).run.status is RunStatus.PAUSED
        # The last of the segment's tasks ends with its commit or in the same turn of the loop after it.
        left = tasks_of_segments()
        if left:
            await asyncio.wait(left, timeout=30)
        assert not tasks_of_segments()
    assert view.run.status is RunStatus.ERROR
    assert view.run.end_reason is EndReason.AGENT_ERROR
    assert view.run.content == f"The agent failed: {type(error()).__name__}"
    assert view.run.lease_expires_at is None
    assert view.run.ended_at is not None
    assert kinds[-1] is EventType.RUN_FAILED
    assert kinds.count(EventType.RUN_FAILED) == 1
    assert EventType.CONTENT_DELTA in kinds
    assert _SECRET not in str(Place.in_folder(tmp_path).dump())


async def test_a_stop_in_the_middle_of_a_call_leaves_it_in_doubt(tmp_path: Path) -> None:
    executed: list[str] = []
    gates = Gates("note")
    async with running(tmp_path, [working_agent(executed, gates)], shutdown_grace_seconds=0) as application:
        run = await start(application, "note")
        await gates.reached("note")
    rows = Place.in_folder(tmp_path).dump()
    assert [row["status"] for row in rows["runs"]] == ["PENDING"]
    assert [row["status"] for row in rows["tool_calls"]] == ["started"]
    async with running(tmp_path, [working_agent(executed, Gates())]) as application:
        await follow(application, run)
        view = await look(application, run)
    assert view.run.status is RunStatus.PAUSED
    assert [each.in_doubt for each in view.requirements] == [True]
    assert view.tool_calls[0].status is CallStatus.STARTED
    assert executed == ["note"]


async def test_a_failure_inside_the_server_gives_running_segments_back_too(tmp_path: Path) -> None:
    gates = Gates("think")

    async def serve_and_fail() -> None:
        async with running(tmp_path, [working_agent([], gates)], shutdown_grace_seconds=0) as application:
            await start(application, "note")
            await gates.reached("think")
            raise LookupError

    with pytest.raises(LookupError):
        await serve_and_fail()
    (row,) = Place.in_folder(tmp_path).dump()["runs"]
    assert row["status"] == "PENDING"


async def test_a_driver_that_goes_on_after_a_cancel_writes_nothing_and_fails_nothing(tmp_path: Path) -> None:
    driver = StubbornDriver()
    drivers: list[AgentDriver] = [driver]
    async with running(tmp_path, drivers=drivers) as application:
        run = await start(application, agent_id="broken")
        await driver.began.wait()
        with capture_logs() as lines:
            await application.service.cancel_run(ADA, RunRef(id=run.id))
            await until(lambda: not tasks_of_segments())
    assert [line for line in lines if line["log_level"] != "info"] == []
    (row,) = Place.in_folder(tmp_path).dump()["runs"]
    assert row["status"] == "CANCELLED"
    assert Place.in_folder(tmp_path).dump()["tool_calls"] == []
