"""Runs that are asked to pause, on both databases: what is kept of the wish, who hears of it, and who wins a race."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.databases import Place
from tests.support.gated_worker import GatedWorker
from tests.support.runs import ADA, answer, finish, follow, look, open_requirements, say, segments, start
from unpause.bootstrap import Application
from unpause.domain.events import EventSelection, EventType
from unpause.domain.principal import Principal
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import CallStatus, Run, RunRef, RunStatus
from unpause.errors import InvalidTransition, RunHasEnded, RunNotFound
from unpause.services.commands import Accepted
from unpause.store.runs import request_pause

AWAITED = "The run was paused on request. Resume it with a prompt to send it on."


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.in_folder(tmp_path)


async def wish(application: Application, run: Run) -> Run:
    """Ask the run to pause."""
    return await application.service.pause_run(ADA, RunRef(id=run.id))


async def wish_elsewhere(application: Application, run: Run) -> None:
    """Ask the run to pause as another process would: this one is told nothing."""
    now = application.clock.now()
    assert await application.database.write(lambda connection: request_pause(connection, run.id, now))


async def test_calls_that_have_not_started_stay_proposed_and_no_one_is_asked(tmp_path: Path) -> None:
    shop = GatedWorker(tmp_path, "think")
    async with shop.opened() as application:
        run = await start(application, "note look")
        await shop.gates.reached("think")
        assert (await wish(application, run)).status is RunStatus.RUNNING
        assert (await look(application, run)).run.pause_requested_at is not None
        shop.gates.open("think")
        await follow(application, run)
        paused = await look(application, run)
        assert (paused.run.status, paused.run.awaiting) == (RunStatus.PAUSED, AWAITED)
        assert (paused.run.pause_requested_at, paused.requirements) == (None, ())
        assert paused.run.pause_id is not None
        assert {call.status for call in paused.tool_calls} == {CallStatus.PROPOSED}
        assert shop.executed == []
        done = await finish(application, run, await say(application, run, "be quick"))
        kinds = await segments(application, run)
    assert done.run.content == "note is done; look is done; be quick"
    assert sorted(shop.executed) == ["look", "note"]
    assert kinds.count(EventType.RUN_PAUSED) == 1


@pytest.mark.sql
async def test_a_wish_that_another_process_wrote_is_heard_before_the_next_call(
    tmp_path: Path, database_url: str
) -> None:
    shop = GatedWorker(tmp_path, "think", database_url=database_url)
    async with shop.opened() as application:
        run = await start(application, "note")
        await shop.gates.reached("think")
        await wish_elsewhere(application, run)
        shop.gates.open("think")
        await follow(application, run)
        paused = await look(application, run)
        assert (paused.run.status, shop.executed) == (RunStatus.PAUSED, [])
        assert [call.status for call in paused.tool_calls] == [CallStatus.PROPOSED]
        done = await finish(application, run, await answer(application, run))
    assert (done.run.content, shop.executed) == ("note is done", ["note"])


async def test_a_wish_that_another_process_wrote_is_heard_before_the_next_model_request(tmp_path: Path) -> None:
    shop = GatedWorker(tmp_path, "note")
    async with shop.opened() as application:
        run = await start(application, "note")
        await shop.gates.reached("note")
        await wish_elsewhere(application, run)
        shop.gates.open("note")
        kinds = [event.type for event in await follow(application, run)]
        assert (await look(application, run)).run.status is RunStatus.PAUSED
    assert kinds.count(EventType.MODEL_REQUEST_STARTED) == 1


async def test_a_wish_outlives_a_stop_of_the_server(tmp_path: Path) -> None:
    shop = GatedWorker(tmp_path, "think")
    async with shop.opened() as application:
        run = await start(application, "note")
        await shop.gates.reached("think")
        await wish(application, run)
    shop.gates.open("think")
    async with shop.opened() as application:
        await follow(application, run)
        paused = await look(application, run)
        assert (paused.run.status, paused.tool_calls) == (RunStatus.PAUSED, ())
        done = await finish(application, run, await answer(application, run))
    assert (done.run.content, shop.executed) == ("note is done", ["note"])


async def test_a_run_that_waits_for_its_turn_pauses_when_it_is_claimed(tmp_path: Path) -> None:
    shop = GatedWorker(tmp_path, "think")
    async with shop.opened(max_running=1) as application:
        first = await start(application, "note")
        await shop.gates.reached("think")
        second = await start(application, "look")
        assert (await wish(application, second)).status is RunStatus.PENDING
        shop.gates.open("think")
        await follow(application, first)
        kinds = [event.type for event in await follow(application, second)]
        assert kinds == [EventType.RUN_STARTED, EventType.CONTENT_COMPLETED, EventType.RUN_PAUSED]
        done = await finish(application, second, await answer(application, second))
    assert (done.run.content, shop.executed) == ("look is done", ["note", "look"])


async def test_a_continued_run_that_waits_for_its_turn_keeps_its_decisions(tmp_path: Path) -> None:
    shop = GatedWorker(tmp_path, "answer")
    async with shop.opened(max_running=1) as application:
        requested = await start(application, "charge")
        await follow(application, requested)
        busy = await start(application, "look")
        await shop.gates.reached("answer")
        continued = await answer(application, requested, ToolAnswer("call-0", confirmed=True))
        await wish(application, requested)
        shop.gates.open("answer")
        await follow(application, busy)
        await follow(application, requested, continued.after)
        paused = await look(application, requested)
        assert (paused.run.status, open_requirements(paused), shop.executed) == (RunStatus.PAUSED, [], ["look"])
        done = await finish(application, requested, await answer(application, requested))
    assert (done.run.content, shop.executed) == ("charge is done", ["look", "charge"])


async def test_a_wish_for_a_paused_run_changes_nothing(tmp_path: Path, place: Place) -> None:
    shop = GatedWorker(tmp_path)
    async with shop.opened() as application:
        run = await start(application, "charge")
        await follow(application, run)
        before = place.lasting()
        assert (await wish(application, run)).status is RunStatus.PAUSED
        assert place.lasting() == before


async def test_a_wish_for_a_run_that_has_ended_is_refused(tmp_path: Path, place: Place) -> None:
    shop = GatedWorker(tmp_path)
    async with shop.opened() as application:
        run = await start(application, "look")
        await follow(application, run)
        before = place.lasting()
        with pytest.raises(RunHasEnded) as refused:
            await wish(application, run)
        assert refused.value.status == "COMPLETED"
        with pytest.raises(RunNotFound):
            await application.service.pause_run(ADA, RunRef(id=run.id + 1))
        with pytest.raises(RunNotFound):
            await application.service.pause_run(Principal(2), RunRef(id=run.id))
        assert place.lasting() == before


@pytest.mark.sql
async def test_many_wishes_and_a_completion_at_once_leave_one_truth(tmp_path: Path, database_url: str) -> None:
    shop = GatedWorker(tmp_path, database_url=database_url)
    async with shop.opened() as application:
        for number in range(6):
            run = await start(application, "look note")
            for _ in range(4 * number):
                await asyncio.sleep(0)  # later by some turns each time
            results = await asyncio.gather(*(wish(application, run) for _ in range(8)), return_exceptions=True)
            assert all(isinstance(result, Run | InvalidTransition) for result in results)
            await follow(application, run)
            view = await look(application, run)
            if view.run.status is RunStatus.PAUSED:
                assert open_requirements(view) == []
                view = await finish(application, run, await answer(application, run))
            assert (view.run.status, view.run.content) == (RunStatus.COMPLETED, "look is done; note is done")
    assert sorted(shop.executed) == ["look"] * 6 + ["note"] * 6


@pytest.mark.sql
async def test_of_continues_at_once_after_a_requested_pause_one_wins(tmp_path: Path, database_url: str) -> None:
    shop = GatedWorker(tmp_path, "think", database_url=database_url)
    async with shop.opened() as application:
        run = await start(application, "note")
        await shop.gates.reached("think")
        await wish(application, run)
        shop.gates.open("think")
        await follow(application, run)
        asking = [*(answer(application, run) for _ in range(8)), *(say(application, run, "words") for _ in range(8))]
        results = await asyncio.gather(*asking, wish(application, run), return_exceptions=True)
        won = [result for result in results if isinstance(result, Accepted)]
        assert sum(isinstance(result, InvalidTransition) for result in results) == len(asking) - len(won)
        # The run may have paused once more for the wish, and been continued from there.
        continued = await application.run_lists.read_log(ADA, run.id, EventSelection({EventType.RUN_CONTINUED: None}))
        assert len({event.payload["pause_id"] for event in continued.events}) == len(won) > 0
        view = await finish(application, run, won[-1])
        if view.run.status is RunStatus.PAUSED:
            view = await finish(application, run, await answer(application, run))
    assert (view.run.status, shop.executed) == (RunStatus.COMPLETED, ["note"])
