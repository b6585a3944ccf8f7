"""What two nodes do to one session, user or key at the same moment: one of them wins, and nothing accepted vanishes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from sqlalchemy import Connection

from tests.support.databases import Place
from tests.support.runs import ADA, follow, look
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import running
from unpause.agents.driver import Journal, Segment, SegmentEnd
from unpause.bootstrap import Application
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import RunRef, RunStatus
from unpause.domain.sessions import NewSession
from unpause.errors import Conflict, RunNotFound
from unpause.services.commands import Accepted, ContinueRun, CreateRun
from unpause.store.users import ensure_user

T = TypeVar("T")

_ROUNDS = 10


class HeldDriver(ScriptedDriver):
    """Executes runs with the prompt ``held`` only once they are released."""

    def __init__(self, released: asyncio.Event) -> None:
        super().__init__()
        self._released = released

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Wait for the release first."""
        if segment.run.prompt == "held":
            await self._released.wait()
        return await super().run_segment(segment, journal)


@pytest.fixture
def released() -> asyncio.Event:
    """Return what holds the runs with the prompt ``held``, on both nodes."""
    return asyncio.Event()


@pytest.fixture
async def nodes(
    tmp_path: Path, postgres_url: str, released: asyncio.Event
) -> AsyncIterator[tuple[Application, Application]]:
    """Run two nodes on one database."""
    async with AsyncExitStack() as stack:

        async def node() -> Application:
            return await stack.enter_async_context(
                running(tmp_path, drivers=[HeldDriver(released)], database_url=postgres_url)
            )

        yield await node(), await node()


async def together(later: float, first: Awaitable[Any], second: Awaitable[Any]) -> list[Any]:
    """Do both, the second so many seconds later, or else the first; return what came of each."""

    async def wait(seconds: float, requested: Awaitable[Any]) -> Any:  # noqa: ANN401 - whatever it returns
        await asyncio.sleep(seconds)
        return await requested

    pair = (wait(max(0, -later), first), wait(max(0, later), second))
    return list(await asyncio.gather(*pair, return_exceptions=True))


def offsets() -> list[float]:
    """Return by how much the second of two is later: 3 milliseconds before to 6 after."""
    return [0.001 * (number - _ROUNDS // 3) for number in range(_ROUNDS)]


async def paused_in(application: Application, session_id: str, prompt: str = "hello") -> Accepted:
    """Make a run in the session and wait until it has paused."""
    accepted = await application.service.create_run(ADA, CreateRun("scripted", prompt, session_id))
    await follow(application, accepted.run)
    return accepted


async def test_of_a_continue_and_the_end_of_its_session_one_wins(
    nodes: tuple[Application, Application], released: asyncio.Event
) -> None:
    one, other = nodes
    for later in offsets():
        session_id = str(uuid4())
        released.set()
        run = (await paused_in(one, session_id, "held")).run
        # Once it has completed, its session may be deleted.
        released.clear()
        yes = ContinueRun((ToolAnswer(f"call-{run.id}", confirmed=True),))
        continued, deleted = await together(
            later,
            one.service.continue_run(ADA, RunRef(id=run.id), yes),
            other.sessions.delete_session(ADA, session_id),
        )
        if isinstance(continued, Accepted):
            assert isinstance(deleted, Conflict), deleted
            released.set()
            await follow(one, run, continued.after)
            assert (await look(one, run)).run.status is RunStatus.COMPLETED
        else:
            assert isinstance(continued, RunNotFound), continued
            assert deleted is None


async def test_of_two_runs_in_turn_at_once_the_session_takes_one(
    nodes: tuple[Application, Application], released: asyncio.Event
) -> None:
    one, other = nodes
    for later in offsets():
        session_id = str(uuid4())
        command = CreateRun("scripted", "held", session_id, in_turn=True)
        released.clear()
        made = await together(
            later, one.service.create_run(ADA, command), other.service.create_run(ADA, replace(command, prompt="hello"))
        )
        released.set()
        assert sorted(type(each).__name__ for each in made) == ["Accepted", "RunInProgress"], made


async def test_of_a_create_and_the_end_of_its_session_nothing_accepted_vanishes(
    nodes: tuple[Application, Application], released: asyncio.Event
) -> None:
    one, other = nodes
    for later in offsets():
        session_id = str(uuid4())
        await paused_in(one, session_id)
        # The new run cannot pause before the delete has ended: a session whose runs are paused may be deleted.
        released.clear()
        created, deleted = await together(
            later,
            one.service.create_run(ADA, CreateRun("scripted", "held", session_id)),
            other.sessions.delete_session(ADA, session_id),
        )
        released.set()
        assert isinstance(created, Accepted), created
        assert deleted is None or isinstance(deleted, Conflict), deleted
        await follow(one, created.run)
        assert (await look(one, created.run)).run.status is RunStatus.PAUSED


async def test_first_requests_with_one_new_session_share_it(nodes: tuple[Application, Application]) -> None:
    one, other = nodes
    for _ in range(_ROUNDS // 2):
        session_id = str(uuid4())
        command = CreateRun("scripted", "hello", session_id)
        made = await asyncio.gather(
            *(node.service.create_run(ADA, command) for node in (one, other, one, other)), return_exceptions=True
        )
        assert [type(each) for each in made] == [Accepted] * 4, made
        assert len({accepted.run.session_key for accepted in made if isinstance(accepted, Accepted)}) == 1


async def test_of_sessions_of_one_id_that_are_made_at_once_one_is(nodes: tuple[Application, Application]) -> None:
    one, other = nodes
    for _ in range(_ROUNDS // 2):
        expected = NewSession(str(uuid4()), "scripted")
        made = await asyncio.gather(
            *(node.sessions.create_session(ADA, expected) for node in (one, other, one, other)), return_exceptions=True
        )
        lost = [each for each in made if isinstance(each, BaseException)]
        assert [type(each) for each in lost] == [Conflict] * 3, made
        assert {str(each) for each in lost} == {f"Session {expected.session_id} exists already"}


async def test_a_new_user_is_made_once(nodes: tuple[Application, Application], postgres_url: str) -> None:
    def unit(connection: Connection) -> None:
        ensure_user(connection, 1, "eve", "MEMBER", nodes[0].clock.now())

    await asyncio.gather(*(node.database.write(unit) for node in nodes * 4))
    assert [user["name"] for user in Place(postgres_url).dump()["users"]].count("eve") == 1
