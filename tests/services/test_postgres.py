"""On PostgreSQL continues really run beside one another: together they do what one after the other would."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.databases import Place
from tests.support.gates import Gates, working_agent
from tests.support.pausing_driver import PausingDriver, need
from tests.support.runs import answer, follow, look, segments, start_and_follow
from tests.support.serving import running
from unpause.domain.events import EventType
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import RunStatus
from unpause.errors import InvalidTransition
from unpause.services.commands import Accepted


async def test_the_last_of_several_partial_answers_given_at_once_moves_the_run(
    tmp_path: Path, postgres_url: str
) -> None:
    calls = [f"call-{number}" for number in range(8)]
    driver = PausingDriver(tuple(need(call) for call in calls))
    async with running(tmp_path, drivers=[driver], database_url=postgres_url) as application:
        run = (await start_and_follow(application)).run
        provided = await asyncio.gather(
            *(answer(application, run, ToolAnswer(call, confirmed=True)) for call in calls), return_exceptions=True
        )
        assert [result.moved for result in provided if isinstance(result, Accepted)].count(True) == 1
        assert len([result for result in provided if isinstance(result, Accepted)]) == len(calls)
        moved = next(result for result in provided if isinstance(result, Accepted) and result.moved)
        await follow(application, run, moved.after)
        ended = await look(application, run)
        kinds = await segments(application, run)
    assert ended.run.status is RunStatus.COMPLETED
    assert sorted(name for name, _ in driver.executed) == [f"tool-{call}" for call in calls]
    assert kinds.count(EventType.RUN_PAUSED) == len(calls)
    assert kinds.index(EventType.RUN_CONTINUED) > len(kinds) - 1 - kinds[::-1].index(EventType.RUN_PAUSED)


@pytest.mark.sql
async def test_nothing_that_was_said_before_a_pause_is_lost(tmp_path: Path, database_url: str) -> None:
    # The pause is written while events of the same segment are: in one of three runs, on the machine this was found on.
    agents = [working_agent([], Gates())]
    async with running(tmp_path, agents, database_url=database_url) as application:
        views = [await start_and_follow(application, "charge") for _ in range(20)]
    assert [(len(view.messages), len(view.tool_calls)) for view in views] == [(2, 1)] * 20


async def test_an_answer_that_comes_beside_the_one_that_moves_the_run_adds_nothing(
    tmp_path: Path, postgres_url: str
) -> None:
    driver = PausingDriver((need("a"), need("b")))
    both = (ToolAnswer("a", confirmed=True), ToolAnswer("b", confirmed=True))
    async with running(tmp_path, drivers=[driver], database_url=postgres_url) as application:
        for _ in range(5):
            run = (await start_and_follow(application)).run
            full, partial = await asyncio.gather(
                answer(application, run, *both),
                answer(application, run, ToolAnswer("a", confirmed=False)),
                return_exceptions=True,
            )
            assert isinstance(full, Accepted) != isinstance(partial, Accepted)
            if isinstance(full, Accepted):
                assert isinstance(partial, InvalidTransition)
                await follow(application, run, full.after)
                assert (await look(application, run)).run.status is RunStatus.COMPLETED
    assert Place(postgres_url).counted()["runs"] == 5
