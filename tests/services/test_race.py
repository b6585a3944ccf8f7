"""Many continue one paused run at once: one wins, and everybody else learns who."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.support.runs import follow, look, segments, start_and_follow
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import running
from unpause.domain.events import EventType
from unpause.domain.principal import Principal
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import RunRef, RunStatus
from unpause.errors import InvalidTransition
from unpause.services.commands import Accepted, ContinueRun

pytestmark = pytest.mark.sql

_CLIENTS = 64


async def test_of_sixty_four_at_once_one_wins_and_the_others_are_told_who(tmp_path: Path, database_url: str) -> None:
    executed: list[str] = []

    def tool(prompt: str) -> str:
        executed.append(prompt)
        return "done"

    async with running(tmp_path, database_url=database_url, drivers=[ScriptedDriver(tool)]) as application:
        paused = (await start_and_follow(application)).run
        asking = [Principal(1, f"user {number}", "agno" if number % 2 else "codegen") for number in range(_CLIENTS)]
        random.shuffle(asking)
        # The odd ones say yes through one API, the even ones no through the other.
        commands = [
            ContinueRun((ToolAnswer(f"call-{paused.id}", confirmed=True),))
            if by.via == "agno"
            else ContinueRun(prompt="no")
            for by in asking
        ]
        results = await asyncio.gather(
            *(
                application.service.continue_run(by, RunRef(id=paused.id), command)
                for by, command in zip(asking, commands, strict=True)
            ),
            return_exceptions=True,
        )
        winners = [(by, result) for by, result in zip(asking, results, strict=True) if isinstance(result, Accepted)]
        losers = [result for result in results if isinstance(result, InvalidTransition)]
        assert (len(winners), len(losers)) == (1, _CLIENTS - 1)
        winner, continued = winners[0]
        assert continued.moved
        await follow(application, paused, continued.after)
        ended = await look(application, paused)
        kinds = await segments(application, paused)

    yes = winner.via == "agno"
    assert ended.run.status is RunStatus.COMPLETED
    assert executed == (["hello"] if yes else [])
    assert kinds.count(EventType.RUN_CONTINUED) == 1
    assert kinds.count(EventType.TOOL_CALL_STARTED) == len(executed)
    assert kinds.count(EventType.RUN_COMPLETED) == 1
    assert ended.run.continuation is not None
    for loser in losers:
        # The last of so many may come when all is over.
        assert (type(loser), loser.status in {"PENDING", "RUNNING", "COMPLETED"}) == (InvalidTransition, True)
        assert loser.details == {
            "status": loser.status,
            "continued_at": ended.run.continuation.at.isoformat(),
            "continued_by": winner.user_id,
            "continued_via": winner.via,
            "decision": "confirmed" if yes else "rejected",
        }


async def test_many_runs_are_continued_beside_one_another(tmp_path: Path, database_url: str) -> None:
    async with running(tmp_path, database_url=database_url, drivers=[ScriptedDriver()]) as application:
        views = await asyncio.gather(*(start_and_follow(application, f"job {number}") for number in range(40)))

        async def confirm(run_id: int) -> str | None:
            command = ContinueRun((ToolAnswer(f"call-{run_id}", confirmed=True),))
            continued = await application.service.continue_run(Principal(1), RunRef(id=run_id), command)
            view = next(view for view in views if view.run.id == run_id)
            await follow(application, view.run, continued.after)
            return (await look(application, view.run)).run.content

        sent = await asyncio.gather(*(confirm(view.run.id) for view in views))
    assert sent == [f"did job {number}" for number in range(40)]
