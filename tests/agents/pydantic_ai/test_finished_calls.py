"""The end of a tool call is written while the agent goes on, and is on disk before the model is asked again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, ModelRetry
from sqlalchemy import Connection

from tests.support.agents import Call, ScriptedModel
from tests.support.databases import NOW, Place
from tests.support.executor_database import ExecutorDatabase
from tests.support.reaching import reached, until
from tests.support.runs import start
from tests.support.serving import running
from unpause.bootstrap import Application
from unpause.domain.runs import RunStatus
from unpause.domain.transitions import Trigger
from unpause.store.runs import transition

Unit = Callable[[Connection], Any]


class GatedDatabase(ExecutorDatabase):
    """The database of the executor: what runs append waits for ``may_write`` once a tool has returned."""

    def __init__(self, application: Application) -> None:
        self.waits = asyncio.Event()
        self.may_write = asyncio.Event()
        self.has_returned = False
        super().__init__(application)

    async def append(self, unit: Unit) -> Any:  # noqa: ANN401 - what the unit returns
        """Write as the test says."""
        if self.has_returned:
            self.waits.set()
            await self.may_write.wait()
        return await self._database.append(unit)


def did(database: GatedDatabase) -> str:
    database.has_returned = True
    return "did it"


def failed(database: GatedDatabase) -> str:
    database.has_returned = True
    raise LookupError


def asked_again(database: GatedDatabase) -> str:
    database.has_returned = True
    raise ModelRetry("again")


async def turns(number: int = 200) -> None:
    """Give everything else its turn."""
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.parametrize("end", [did, failed, asked_again])
async def test_the_model_is_not_asked_again_before_the_end_of_a_call_is_on_disk(
    tmp_path: Path, end: Callable[[GatedDatabase], str]
) -> None:
    script = ScriptedModel([Call("act")])
    agent = Agent(script.model, name="agent")
    databases: list[GatedDatabase] = []

    @agent.tool_plain
    def act() -> str:
        return end(databases[0])

    async with running(tmp_path, [agent]) as application:
        databases.append(database := GatedDatabase(application))
        run = await start(application)
        await database.waits.wait()
        await turns()
        assert len(script.requests) == 1
        (call,) = Place.in_folder(tmp_path).dump()["tool_calls"]
        assert call["status"] == "started"
        database.may_write.set()
        await reached(application.database, run.id, RunStatus.COMPLETED)
    assert len(script.requests) == 2


async def test_a_call_starts_only_once_the_end_of_the_one_before_is_on_disk(tmp_path: Path) -> None:
    agent = Agent(ScriptedModel([Call("act"), Call("act_next")]).model, name="agent")
    databases: list[GatedDatabase] = []
    ran: list[str] = []

    @agent.tool_plain(sequential=True)
    def act() -> str:
        ran.append("act")
        return did(databases[0])

    @agent.tool_plain(sequential=True)
    def act_next() -> str:
        ran.append("act_next")
        return "did it, too"

    async with running(tmp_path, [agent]) as application:
        databases.append(database := GatedDatabase(application))
        run = await start(application)
        await database.waits.wait()
        await turns()
        assert ran == ["act"]
        database.may_write.set()
        await reached(application.database, run.id, RunStatus.COMPLETED)
    assert ran == ["act", "act_next"]


async def test_who_has_lost_the_run_while_a_call_ended_asks_the_model_nothing(tmp_path: Path) -> None:
    script = ScriptedModel([Call("act")])
    agent = Agent(script.model, name="agent")
    databases: list[GatedDatabase] = []

    @agent.tool_plain
    def act() -> str:
        return did(databases[0])

    async with running(tmp_path, [agent]) as application:
        databases.append(database := GatedDatabase(application))
        run = await start(application)
        await database.waits.wait()

        def taken_over(connection: Connection) -> None:
            transition(connection, run.id, Trigger.RELEASE, changes={"updated_at": NOW})
            transition(connection, run.id, Trigger.CLAIM, changes={"updated_at": NOW})

        await application.database.write(taken_over)
        database.may_write.set()
        await until(lambda: not application.executor.list_held())
        found = await reached(application.database, run.id, RunStatus.RUNNING)
    assert (found.fence, len(script.requests)) == (2, 1)
    (call,) = Place.in_folder(tmp_path).dump()["tool_calls"]
    assert call["status"] == "started"
