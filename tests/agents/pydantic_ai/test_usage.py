"""What a run has used up is written with all else that is, so limits count the whole run however often it is cut."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from pydantic_ai import Agent, Tool

from tests.agents.pydantic_ai.driving import DrivenServer, driving
from tests.support.agents import Call, ScriptedModel
from tests.support.runs import ADA, answer, follow, look, open_requirements, start
from unpause.agents.policy import policy
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import Run, RunRef, RunStatus


class Cut:
    """An agent whose second call of each process never comes back."""

    def __init__(self, turns: int, *, idempotent: bool) -> None:
        self.script = ScriptedModel(*([Call("step", {"n": n})] for n in range(turns)))
        self.hangs = asyncio.Event()
        self.left = 1
        tool = Tool(self.step, metadata=policy(idempotent=idempotent))
        self.agent: Agent[None, str] = Agent(self.script.model, name="agent", tools=[tool])

    async def step(self, n: int) -> str:
        """Do a step."""
        if self.left == 0:
            self.hangs.set()
            await asyncio.Event().wait()
        self.left -= 1
        return f"did {n}"


async def used(server: DrivenServer, run: Run) -> dict[str, int]:
    """Return what the run has used up as it is written."""
    return (await server.application.service.get_run(ADA, RunRef(id=run.id))).usage or {}


async def test_a_limit_counts_the_requests_of_processes_that_stopped_amid_a_call(tmp_path: Path) -> None:
    cut = Cut(9, idempotent=True)
    settings: dict[str, Any] = {"request_limit": 3, "shutdown_grace_seconds": 0.0}
    async with driving(tmp_path, cut.agent, **settings) as server:
        run = await start(server.application, "go")
        await asyncio.wait_for(cut.hangs.wait(), 30)
        assert (await used(server, run))["requests"] == 2
    cut.left = 9
    async with driving(tmp_path, cut.agent, **settings) as server:
        await follow(server.application, run, run.last_sequence)
        ended = await look(server.application, run)
    assert (ended.run.status, len(cut.script.requests)) == (RunStatus.ERROR, 3)
    assert ended.run.usage is not None
    assert (ended.run.usage["requests"], ended.run.usage["tool_calls"]) == (3, 3)


async def test_a_pause_in_doubt_keeps_what_was_used(tmp_path: Path) -> None:
    cut = Cut(2, idempotent=False)
    async with driving(tmp_path, cut.agent, shutdown_grace_seconds=0.0) as server:
        run = await start(server.application, "go")
        await asyncio.wait_for(cut.hangs.wait(), 30)
        before = await used(server, run)
    cut.left = 9
    async with driving(tmp_path, cut.agent) as server:
        await follow(server.application, run, run.last_sequence)
        doubtful = await look(server.application, run)
        (requested,) = open_requirements(doubtful)
        assert (doubtful.run.usage, before["requests"]) == (before, 2)
        continued = await answer(server.application, run, ToolAnswer(requested.tool_call_id, confirmed=True))
        await follow(server.application, run, continued.after)
        done = await look(server.application, run)
    assert done.run.usage is not None
    assert (done.run.status, done.run.usage["requests"]) == (RunStatus.COMPLETED, 3)


async def test_a_request_that_failed_amid_its_answer_counts(tmp_path: Path) -> None:
    script = ScriptedModel(["some words", RuntimeError("cut")])
    async with driving(tmp_path, Agent(script.model, name="agent")) as server:
        failed = await server.run()
    assert (failed["status"], failed["metrics"]["requests"]) == ("ERROR", 1)
