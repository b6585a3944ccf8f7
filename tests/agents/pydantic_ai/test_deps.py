"""What an agent's tools find as ``ctx.deps``: made for each segment by the author's factory, and closed after it."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import pytest
from pydantic_ai import Agent, RunContext, Tool

from tests.agents.pydantic_ai.driving import driving
from tests.support.agents import Call, ScriptedModel
from unpause import RunInfo, agent_deps
from unpause.agents.pydantic_ai.driver import DriverOptions, PydanticAIDriver
from unpause.agents.pydantic_ai.loading import load_agents
from unpause.agents.redaction import Redaction
from unpause.clock import RandomIds
from unpause.errors import InvalidSetting

DOCUMENT = Path(__file__).parents[3] / "docs" / "how-to" / "deps.md"

notes: list[str] = []


@dataclass
class Deps:
    """Something to work with."""

    user: str | None


class OpenedDeps(Deps):
    """The same, as a context manager of its own class."""

    def __init__(self, run: RunInfo) -> None:
        super().__init__(run.user_id)

    async def __aenter__(self) -> Self:
        """Open it."""
        notes.append("opened")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        notes.append("closed")


def returns(run: RunInfo) -> Deps:
    return Deps(run.user_id)


async def returns_later(run: RunInfo) -> Deps:
    await asyncio.sleep(0)
    return Deps(run.user_id)


def yields(run: RunInfo) -> Iterator[Deps]:
    notes.append("opened")
    yield Deps(run.user_id)
    notes.append("closed")


async def yields_later(run: RunInfo) -> AsyncIterator[Deps]:
    notes.append("opened")
    yield Deps(run.user_id)
    notes.append("closed")


async def returns_a_context(run: RunInfo) -> AbstractAsyncContextManager[Deps]:
    return asynccontextmanager(yields_later)(run)


FACTORIES: list[tuple[Callable[..., Any], bool]] = [
    (returns, False),
    (returns_later, False),
    (partial(returns), False),
    (OpenedDeps, True),
    # A pool looks like this one: who returns what is the deps itself has it closed elsewhere.
    (partial(OpenedDeps), False),
    (yields, True),
    (yields_later, True),
    (contextmanager(yields), True),
    (asynccontextmanager(yields_later), True),
    (returns_a_context, True),
]


@pytest.fixture(autouse=True)
def no_notes() -> None:
    notes.clear()


def agent_of(script: ScriptedModel, deps_type: type[Any] = Deps) -> Agent[Any, str]:
    def act(ctx: RunContext[Any]) -> str:
        """Act."""
        notes.append("acted")
        return f"for {ctx.deps.user}"

    return Agent(
        script.model,
        name="agent",
        deps_type=deps_type,
        tools=[Tool(act), Tool(act, name="wait", requires_approval=True)],
    )


@pytest.mark.parametrize(("factory", "closes"), FACTORIES)
async def test_each_segment_has_deps_of_its_own_which_are_closed_after_it(
    tmp_path: Path, factory: Callable[..., Any], *, closes: bool
) -> None:
    agent = agent_of(ScriptedModel([Call("act")], [Call("wait")], "done"))
    agent_deps(agent, factory)
    async with driving(tmp_path, agent) as server:
        paused = await server.run(user_id="ada")
        assert notes == (["opened", "acted", "closed"] if closes else ["acted"])
        done = await server.confirm(paused)
    assert [tool["result"] for tool in done["tools"]] == ["for ada"] * 2
    assert done["status"] == "COMPLETED"
    assert notes == (["opened", "acted", "closed"] if closes else ["acted"]) * 2


async def test_the_factory_is_told_whose_run_it_is(tmp_path: Path) -> None:
    requested: list[RunInfo] = []

    def factory(run: RunInfo) -> Deps:
        requested.append(run)
        return Deps(None)

    agent = agent_of(ScriptedModel("done"), object)
    agent_deps(agent, factory)
    async with driving(tmp_path, agent) as server:
        run = await server.run(
            user_id="ada", metadata='{"a": 1}', session_state='{"b": 2}', dependencies='{"c": 3}', session_id="s"
        )
    assert requested == [
        RunInfo(
            run_id=run["run_id"],
            agent_id="agent",
            session_id="s",
            organization_id=1,
            user_id="ada",
            metadata={"a": 1},
            session_state={"b": 2},
            dependencies={"c": 3},
        )
    ]


async def test_what_a_factory_yields_is_closed_after_a_failure_and_a_cancel_too(tmp_path: Path) -> None:
    reached = asyncio.Event()

    async def hang() -> str:
        """Hang."""
        reached.set()
        await asyncio.Event().wait()
        return "never"

    async def factory(run: RunInfo) -> AsyncIterator[Deps]:
        try:
            yield Deps(run.user_id)
        except BaseException as error:
            notes.append(type(error).__name__)
            if isinstance(error, RuntimeError):
                # To be hidden is not up to it.
                return
            raise

    agent = Agent(ScriptedModel(RuntimeError("gone"), [Call("hang")]).model, name="agent", tools=[hang])
    agent_deps(agent, factory)
    async with driving(tmp_path, agent) as server:
        failed = await server.run()
        waiting = asyncio.create_task(server.run())
        await reached.wait()
        runs = (await server.get("/v1/organizations/1/agent/runs")).json()["items"]
        run_id = runs[0]["web_url"].rpartition("/")[2]
        await server.client.post(f"/agents/agent/runs/{run_id}/cancel")
        cancelled = await waiting
    assert (failed["status"], failed["content"]) == ("ERROR", "gone")
    assert cancelled["status"] == "CANCELLED"
    assert notes == ["RuntimeError", "CancelledError"]


async def test_a_factory_that_fails_ends_its_run_with_a_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def making(_: RunInfo) -> Deps:
        raise SystemExit(3)

    async def closing_deps(run: RunInfo) -> AsyncIterator[Deps]:
        yield Deps(run.user_id)
        raise ConnectionError("the database went away")

    for factory, content in (
        (making, "The agent's deps could not be made: SystemExit: 3"),
        (closing_deps, "The agent's deps could not be closed: the database went away"),
    ):
        agent = agent_of(ScriptedModel("done"))
        agent_deps(agent, factory)
        async with driving(tmp_path, agent) as server:
            run = await server.run("hello")
        assert (run["status"], run["content"]) == ("ERROR", content)
        assert run["messages"][0]["content"] == "hello"
        lines = [line for line in capsys.readouterr().out.splitlines() if f"run_id={run['run_id']}" in line]
        assert sum("[info" not in line and "run ended" not in line for line in lines) == 1


async def test_what_is_opened_once_is_shared_by_all_segments_and_agents_of_the_process(tmp_path: Path) -> None:
    @asynccontextmanager
    async def pool() -> AsyncIterator[list[str]]:
        notes.append("pool opened")
        yield ["pool"]
        notes.append("pool closed")

    agents = [Agent(ScriptedModel("done", "done").model, name=name) for name in ("agent", "other")]
    seen: list[list[str]] = []
    for agent in agents:
        agent_deps(agent, lambda _, shared: seen.append(shared), lifespan=pool)
    for _ in range(2):
        async with driving(tmp_path, *agents) as server:
            await server.run()
            await server.run()
            await server.run(agent="other")
    assert notes == ["pool opened", "pool closed"] * 2
    assert seen == [["pool"]] * 6
    assert len({id(shared) for shared in seen[:3]}) == 1


async def test_what_cannot_be_opened_stops_the_start_and_what_dies_later_only_its_runs(tmp_path: Path) -> None:
    broken, gone = asyncio.Event(), asyncio.Event()

    async def refused() -> AsyncIterator[str]:
        if not gone.is_set():
            raise ConnectionError("no database")
        yield ""

    async def fragile() -> AsyncIterator[str]:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(fail_when(broken))
                yield "value"
        finally:
            gone.set()

    agent = Agent(ScriptedModel("one", "two").model, name="agent")
    agent_deps(agent, lambda _, value: value, lifespan=refused)
    with pytest.raises(InvalidSetting, match=r"lifespan .*refused failed: no database"):
        async with driving(tmp_path, agent):
            pass
    agent_deps(agent, lambda _, value: value, lifespan=fragile)
    async with driving(tmp_path, agent) as server:
        assert (await server.run())["content"] == "one"
        broken.set()
        await gone.wait()
        await asyncio.sleep(0)
        failed = await server.run()
        assert (await server.get("/health")).status_code == 200
    assert failed["status"] == "ERROR"
    assert "fragile is not open" in failed["content"]


async def fail_when(event: asyncio.Event) -> None:
    await event.wait()
    raise ConnectionError("lost")


def takes_none() -> None: ...
def takes_one(_run: object) -> None: ...
def takes_two(_run: object, _pool: object) -> None: ...


NOT_CALLED_SO: list[tuple[object, object, str]] = [
    (5, None, "takes functions, not 5"),
    (takes_none, None, "takes_none with the run's RunInfo, and it does not take that: too many positional arguments"),
    (takes_two, None, "missing a required argument: '_pool'"),
    (takes_one, takes_none, "with the run's RunInfo and what lifespan yields"),
    (takes_two, takes_one, "with nothing, and it does not take that"),
    (takes_two, "pool", "takes functions, not 'pool'"),
]


@pytest.mark.parametrize(("factory", "lifespan", "words"), NOT_CALLED_SO)
def test_what_cannot_be_called_as_it_would_be_is_refused_where_it_is_named(
    factory: object, lifespan: object, words: str
) -> None:
    with pytest.raises(TypeError, match=re.escape(words)):
        agent_deps(Agent("test"), factory, lifespan=lifespan)  # type: ignore[arg-type]  # wrong on purpose


def test_deps_are_those_of_an_agent() -> None:
    with pytest.raises(TypeError, match=r"takes a pydantic_ai\.Agent first, not 5"):
        agent_deps(5, takes_one)  # type: ignore[arg-type]  # wrong on purpose


def test_an_agent_that_needs_deps_and_has_no_factory_is_refused() -> None:
    options = DriverOptions(RandomIds(), Redaction({}))
    needed: tuple[Any, ...] = (Deps, str, dict[str, int], Deps | None)
    for deps_type in needed:
        agent: Agent[Any, str] = Agent(ScriptedModel().model, name="agent", deps_type=deps_type)
        with pytest.raises(InvalidSetting, match=r"agent 'agent' has deps_type=.*agent_deps\(agent, factory\)"):
            PydanticAIDriver(agent, options)
        agent_deps(agent, returns)
        PydanticAIDriver(agent, options)
    for unnamed in (object, type(None)):
        PydanticAIDriver(Agent(ScriptedModel().model, name="agent", deps_type=unnamed), options)
    with pytest.raises(TypeError, match="takes functions"):
        agent_deps(agent, "deps")  # type: ignore[arg-type]


async def test_the_document_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", read(DOCUMENT), re.DOTALL)
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "shop.py", code)
    (agent,) = (found.agent for found in load_agents(["shop.py"]))
    agent.model = ScriptedModel([Call("order", {"item": "tea"})], "done").model
    async with driving(tmp_path, agent) as server:
        done = await server.confirm(await server.run(agent="shop", user_id="ada"))
    assert (done["status"], done["tools"][0]["result"]) == ("COMPLETED", "ordered tea")
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        assert connection.execute("SELECT * FROM orders").fetchall() == [("tea", "ada")]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
