"""What a process leaves that is killed at any moment, and what the next one makes of it.

The database is copied while a run stands still at one of its places; the copy is what a kill there would leave.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.databases import Place, copy_database, sqlite_url
from tests.support.gates import GatedDriver, Gates, working_agent
from tests.support.runs import answer, finish, follow, look, open_requirements, say, segments, start, start_and_follow
from tests.support.serving import running
from unpause.agents.pydantic_ai.driver import DriverOptions, PydanticAIDriver
from unpause.agents.redaction import Redaction
from unpause.bootstrap import Application
from unpause.clock import RandomIds
from unpause.domain.events import EventType
from unpause.domain.requirements import RequirementKind, ToolAnswer
from unpause.domain.runs import CallStatus, Outcome, Run, RunStatus
from unpause.errors import InvalidTransition

_YES = ToolAnswer("call-0", confirmed=True)
_TEXT = (
    "The server stopped while charge was running: the call may already have run. "
    "Confirm to run it again, or reject it with a note about what happened."
)


@asynccontextmanager
async def worker(folder: Path, executed: list[str], gates: Gates, max_running: int = 64) -> AsyncIterator[Application]:
    """Serve the working agent; at the end nobody waits for what stands still."""
    driver = PydanticAIDriver(working_agent(executed, gates), DriverOptions(RandomIds(), Redaction({})))
    gated = [GatedDriver(driver, gates)]
    async with running(folder, drivers=gated, shutdown_grace_seconds=0, max_running=max_running) as application:
        yield application


async def crashed(
    folder: Path, prompt: str, place: str, executed: list[str], answers: Sequence[ToolAnswer] = ()
) -> tuple[Path, Run]:
    """Run the prompt up to a place, answering a pause on the way if there is an answer; return what a kill leaves."""
    gates = Gates(place)
    async with worker(folder, executed, gates) as application:
        run = await start(application, prompt)
        if answers:
            await follow(application, run)
            await answer(application, run, *answers)
        await gates.reached(place)
        return left_behind(folder), run


def left_behind(folder: Path) -> Path:
    """Copy the database of a server that is running into a fresh folder beside or below it."""
    after = folder / "after"
    after.mkdir()
    copy_database(folder / "unpause.db", after / "unpause.db")
    return after


def statuses(folder: Path) -> tuple[str, list[str]]:
    """Return the status of the only run and of its calls, as they are on disk."""
    rows = Place(sqlite_url(folder / "unpause.db")).dump()
    return rows["runs"][0]["status"], [call["status"] for call in rows["tool_calls"]]


async def test_pending_runs_go_on_by_themselves(tmp_path: Path) -> None:
    executed: list[str] = []
    gates = Gates("segment 1")
    async with worker(tmp_path, executed, gates, max_running=1) as application:
        runs = [await start(application, prompt) for prompt in ("note", "look")]
        await gates.reached("segment 1")
        after = left_behind(tmp_path)
    left = Place(sqlite_url(after / "unpause.db")).dump()["runs"]
    assert [row["status"] for row in left] == ["RUNNING", "PENDING"]
    async with worker(after, executed, Gates()) as application:
        for run in runs:
            await follow(application, run)
            assert (await look(application, run)).run.status is RunStatus.COMPLETED
    assert sorted(executed) == ["look", "note"]


async def test_a_run_that_had_not_reached_a_call_goes_on_by_itself(tmp_path: Path) -> None:
    executed: list[str] = []
    after, run = await crashed(tmp_path, "note", "think", executed)
    assert statuses(after) == ("RUNNING", [])
    async with worker(after, executed, Gates()) as application:
        await follow(application, run)
        ended = await look(application, run)
    assert (ended.run.status, ended.run.content) == (RunStatus.COMPLETED, "note is done")
    assert executed == ["note"]


async def test_a_confirmed_call_that_had_not_started_runs_once(tmp_path: Path) -> None:
    executed: list[str] = []
    after, run = await crashed(tmp_path, "charge", "segment 2", executed, [_YES])
    assert statuses(after) == ("RUNNING", ["proposed"])
    async with worker(after, executed, Gates()) as application:
        paused = await follow(application, run)
        await follow(application, run, paused[-1].sequence)
        ended = await look(application, run)
    assert (ended.run.status, ended.run.content) == (RunStatus.COMPLETED, "charge is done")
    assert executed == ["charge"]


async def test_a_finished_call_is_never_run_again(tmp_path: Path) -> None:
    executed: list[str] = []
    after, run = await crashed(tmp_path, "charge note", "answer", executed, [_YES])
    assert statuses(after) == ("RUNNING", ["finished", "finished"])
    async with worker(after, executed, Gates()) as application:
        paused = await follow(application, run)
        await follow(application, run, paused[-1].sequence)
        ended = await look(application, run)
    assert sorted((ended.run.content or "").split("; ")) == ["charge is done", "note is done"]
    assert sorted(executed) == ["charge", "note"]


@pytest.mark.parametrize("tool", ["break", "retry"])
async def test_a_call_that_failed_is_not_run_again_either(tmp_path: Path, tool: str) -> None:
    executed: list[str] = []
    # Beside a call that waits, so that the loop goes on at the failed one and not after it.
    after, run = await crashed(
        tmp_path, f"{tool} charge", "segment 2", executed, [ToolAnswer("call-1", confirmed=True)]
    )
    assert statuses(after) == ("RUNNING", ["finished", "proposed"])
    async with worker(after, executed, Gates()) as application:
        paused = await follow(application, run)
        await follow(application, run, paused[-1].sequence)
        ended = await look(application, run)
    assert ended.run.status is RunStatus.COMPLETED
    assert "charge is done" in (ended.run.content or "")
    assert executed == [tool, "charge"]


async def test_a_started_call_that_is_idempotent_is_simply_run_again(tmp_path: Path) -> None:
    executed: list[str] = []
    after, run = await crashed(tmp_path, "look", "look", executed)
    assert statuses(after) == ("RUNNING", ["started"])
    async with worker(after, executed, Gates()) as application:
        await follow(application, run)
        ended = await look(application, run)
    assert (ended.run.status, ended.run.content) == (RunStatus.COMPLETED, "look is done")
    assert executed == ["look", "look"]


async def test_beside_a_call_in_doubt_a_finished_one_keeps_its_result(tmp_path: Path) -> None:
    executed: list[str] = []
    after, run = await crashed(tmp_path, "charge look", "charge", executed, [_YES])
    async with worker(after, executed, Gates()) as application:
        doubt = await doubtful(application, run)
        continued = await answer(application, run, ToolAnswer(doubt, confirmed=True))
        ended = await finish(application, run, continued)
    assert sorted((ended.run.content or "").split("; ")) == ["charge is done", "look is done"]
    assert executed.count("look") == 1
    assert executed.count("charge") == 2


async def doubtful(application: Application, run: Run) -> str:
    """Wait until the run asks about its call in doubt, check how it asks, and return the id to answer under."""
    seen = 0
    while True:
        events = await follow(application, run, seen)
        seen = events[-1].sequence
        view = await look(application, run)
        waits = open_requirements(view)
        if waits and waits[0].in_doubt and view.run.last_sequence == seen:
            break
    (requirement,) = waits
    assert view.run.status is RunStatus.PAUSED
    assert (view.run.content, requirement.message) == (None, _TEXT)
    assert requirement.kind is RequirementKind.CONFIRMATION
    assert requirement.call_id == "call-0"
    assert requirement.tool_call_id not in {each.tool_call_id for each in view.requirements[:-1]}
    assert requirement.tool_call_id != "call-0"
    assert view.tool_calls[0].status is CallStatus.STARTED
    return requirement.tool_call_id


async def test_a_call_in_doubt_asks_and_is_run_once_more_when_it_is_confirmed(tmp_path: Path) -> None:
    executed: list[str] = []
    after, run = await crashed(tmp_path, "charge", "charge", executed, [_YES])
    assert statuses(after) == ("RUNNING", ["started"])
    async with worker(after, executed, Gates()) as application:
        doubt = await doubtful(application, run)
        assert executed == ["charge"]
        ended = await finish(application, run, await answer(application, run, ToolAnswer(doubt, confirmed=True)))
        kinds = await segments(application, run)
    assert (ended.run.status, ended.run.content) == (RunStatus.COMPLETED, "charge is done")
    assert executed == ["charge", "charge"]
    assert kinds.count(EventType.RUN_PAUSED) == 2
    assert kinds.count(EventType.TOOL_CALL_COMPLETED) == 1


async def test_what_a_run_used_up_is_not_forgotten_when_a_call_is_in_doubt(tmp_path: Path) -> None:
    executed: list[str] = []
    after, run = await crashed(tmp_path, "charge", "charge", executed, [_YES])
    used = Place(sqlite_url(after / "unpause.db")).dump()["runs"][0]["usage"]
    async with worker(after, executed, Gates()) as application:
        await doubtful(application, run)
        view = await look(application, run)
    assert used["requests"] == 1
    assert view.run.usage == used


async def test_the_old_answer_does_not_answer_the_doubt(tmp_path: Path) -> None:
    executed: list[str] = []
    after, run = await crashed(tmp_path, "charge", "charge", executed, [_YES])
    async with worker(after, executed, Gates()) as application:
        await doubtful(application, run)
        place = Place(sqlite_url(after / "unpause.db"))
        before = place.lasting()
        for repeated in (_YES, ToolAnswer("call-0", "charge", {}, confirmed=True)):
            with pytest.raises(InvalidTransition):
                await answer(application, run, repeated)
        assert place.lasting() == before
    assert executed == ["charge"]


@pytest.mark.parametrize("through", ["answer", "prompt"])
async def test_a_rejected_doubt_tells_the_model_what_happened(tmp_path: Path, through: str) -> None:
    executed: list[str] = []
    note = "I looked: it was charged"
    after, run = await crashed(tmp_path, "charge", "charge", executed, [_YES])
    async with worker(after, executed, Gates()) as application:
        doubt = await doubtful(application, run)
        if through == "answer":
            continued = await answer(application, run, ToolAnswer(doubt, confirmed=False, note=note))
        else:
            continued = await say(application, run, note)
        ended = await finish(application, run, continued)
    assert ended.run.status is RunStatus.COMPLETED
    assert set((ended.run.content or "").split("; ")) == {note}
    assert (ended.tool_calls[0].status, ended.tool_calls[0].outcome) == (CallStatus.FINISHED, Outcome.DENIED)
    assert executed == ["charge"]


async def test_a_crash_during_the_second_execution_asks_again(tmp_path: Path) -> None:
    executed: list[str] = []
    after, run = await crashed(tmp_path, "charge", "charge", executed, [_YES])
    gates = Gates("charge")
    async with worker(after, executed, gates) as application:
        first = await doubtful(application, run)
        await answer(application, run, ToolAnswer(first, confirmed=True))
        await gates.reached("charge")
        again = left_behind(after)
    async with worker(again, executed, Gates()) as application:
        second = await doubtful(application, run)
        assert second != first
        for late in (ToolAnswer(first, confirmed=True), _YES):
            with pytest.raises(InvalidTransition):
                await answer(application, run, late)
        ended = await finish(application, run, await answer(application, run, ToolAnswer(second, confirmed=True)))
    assert ended.run.content == "charge is done"
    assert executed == ["charge"] * 3


async def test_a_call_in_doubt_still_asks_after_more_restarts(tmp_path: Path) -> None:
    executed: list[str] = []
    after, run = await crashed(tmp_path, "charge", "charge", executed, [_YES])
    async with worker(after, executed, Gates()) as application:
        doubt = await doubtful(application, run)
    for _ in range(2):
        async with worker(after, executed, Gates()) as application:
            view = await look(application, run)
            assert [each.tool_call_id for each in open_requirements(view)] == [doubt]
    async with worker(after, executed, Gates()) as application:
        ended = await finish(application, run, await answer(application, run, ToolAnswer(doubt, confirmed=True)))
    assert ended.run.content == "charge is done"
    assert executed == ["charge"] * 2


async def test_a_free_call_that_may_not_run_twice_is_in_doubt_too(tmp_path: Path) -> None:
    executed: list[str] = []
    after, run = await crashed(tmp_path, "note", "note", executed)
    async with worker(after, executed, Gates()) as application:
        await follow(application, run)
        (requirement,) = open_requirements(await look(application, run))
        assert requirement.in_doubt
        assert (requirement.call_id, requirement.tool_call_id == "call-0") == ("call-0", False)
        assert "note was running" in (requirement.message or "")
        yes = ToolAnswer(requirement.tool_call_id, confirmed=True)
        ended = await finish(application, run, await answer(application, run, yes))
    assert (ended.run.status, ended.run.content) == (RunStatus.COMPLETED, "note is done")
    assert executed == ["note", "note"]


async def test_several_calls_in_doubt_are_asked_about_one_by_one(tmp_path: Path) -> None:
    executed: list[str] = []
    gates = Gates("charge", "note")
    async with worker(tmp_path, executed, gates) as application:
        run = await start(application, "note charge")
        await gates.reached("note")
        first = left_behind(tmp_path)
    gates = Gates("charge", "note")
    async with worker(first, executed, gates) as application:
        await follow(application, run)
        doubt = open_requirements(await look(application, run))
        assert [each.call_id for each in doubt] == ["call-0"]
        no = ToolAnswer(doubt[0].tool_call_id, confirmed=False, note="it was noted")
        view = await finish(application, run, await answer(application, run, no))
        assert [each.tool_call_id for each in open_requirements(view)] == ["call-1"]
        yes = ToolAnswer("call-1", confirmed=True)
        await answer(application, run, yes)
        gates.open("charge")
        await follow(application, run, view.run.last_sequence)
        ended = await look(application, run)
    assert set((ended.run.content or "").split("; ")) == {"it was noted", "charge is done"}
    assert executed == ["note", "charge"]


async def test_a_paused_run_waits_through_restarts_as_it_was(tmp_path: Path) -> None:
    executed: list[str] = []
    async with worker(tmp_path, executed, Gates()) as application:
        view = await start_and_follow(application, "charge")
    before = Place.in_folder(tmp_path).lasting()
    async with worker(tmp_path, executed, Gates()):
        pass
    assert Place.in_folder(tmp_path).lasting() == before
    async with worker(tmp_path, executed, Gates()) as application:
        ended = await finish(application, view.run, await answer(application, view.run, _YES))
    assert ended.run.content == "charge is done"
    assert executed == ["charge"]
