"""What an agent's own hooks make of a tool's result is what models and people get, also over pauses and crashes."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, ModelRetry, RunContext, Tool, ToolReturn
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import ApprovalRequired, SkipToolExecution, ToolFailed
from pydantic_ai.messages import ModelMessage, ModelResponse, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.tools import ToolDefinition

from tests.agents.pydantic_ai.driving import driving, no, open_tools, said_by_tools, yes
from tests.support.agents import Call, ScriptedModel, parts_of
from tests.support.databases import Place
from tests.support.mortal_journal import MortalJournal, run_to_the_end, setup_run
from tests.support.reaching import until
from tests.support.serving import options_for
from unpause.agents.driver import Completed
from unpause.agents.pydantic_ai.driver import PydanticAIDriver
from unpause.settings import Settings

SECRET = "the-password"


@dataclass
class Hooks(AbstractCapability[Any]):
    """Hooks around each tool: ``after`` is given what a tool returned; they count how often they were called."""

    after: Callable[[str, object], object] = lambda _, result: result
    called: Counter[str] = field(default_factory=Counter)

    async def after_tool_execute(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: dict[str, Any],
        result: object,
    ) -> object:
        """Make something else of the result."""
        del ctx, tool_def, args
        self.called[call.tool_name] += 1
        return self.after(call.tool_name, result)


def tools(did: list[str], more: str = "") -> list[Tool[Any]]:
    """Return a tool that needs nobody, and one that needs a confirmation."""

    def look() -> str:
        did.append("look")
        return SECRET + more

    def act() -> str:
        did.append("act")
        return f"acted with {SECRET}"

    return [Tool(look), Tool(act, requires_approval=True)]


def tool_returns(script: ScriptedModel | Forgetful) -> dict[str, tuple[Any, str]]:
    """Return what the model was told of each tool last: the content and the outcome."""
    parts = parts_of(script.requests[-1], ToolReturnPart)
    return {part.tool_name: (part.content, part.outcome) for part in parts}


def hidden(_: str, result: object) -> str:
    """Return the result without the secret."""
    return str(result).replace(SECRET, "***")


@pytest.mark.parametrize("more", ["", "." * 20_000])
async def test_what_a_hook_hides_is_hidden_over_a_pause_from_the_model_and_from_people(
    tmp_path: Path, more: str
) -> None:
    did: list[str] = []
    script, hooks = ScriptedModel([Call("look"), Call("act")]), Hooks(hidden)
    agent = Agent(script.model, name="agent", tools=tools(did, more), capabilities=[hooks])
    async with driving(tmp_path, agent) as server:
        events = await server.events()
        run = await server.read(events[0])
        assert run["status"] == "PAUSED"
        done = await server.confirm(run)
        dump = await server.dump()
    seen = "***" + more
    assert tool_returns(script) == {"look": (seen, "success"), "act": ("acted with ***", "success")}
    assert (did, hooks.called) == (["look", "act"], {"look": 1, "act": 1})
    assert said_by_tools(done) == [("look", seen), ("act", "acted with ***")]
    assert [event["tool"]["result"] for event in events if event["event"] == "ToolCallCompleted"] == [seen]
    assert SECRET not in json.dumps(dump, default=str)


async def test_a_hooks_own_object_survives_a_pause_as_it_is(tmp_path: Path) -> None:
    def wrapped(name: str, result: object) -> object:
        return ToolReturn({"of": name}, content="a picture of it", metadata={"seen": 1}) if name == "look" else result

    script = ScriptedModel([Call("look"), Call("act")])
    agent = Agent(script.model, name="agent", tools=tools([]), capabilities=[Hooks(wrapped)])
    async with driving(tmp_path, agent) as server:
        await server.confirm(await server.run())
    assert tool_returns(script)["look"] == ({"of": "look"}, "success")
    assert any("a picture of it" in str(part) for part in script.requests[-1][-1].parts)


def retries(_: str, __: object) -> object:
    raise ModelRetry("not good enough")


def fails(_: str, __: object) -> object:
    raise ToolFailed("refused by the guard")


def skips(_: str, __: object) -> object:
    raise SkipToolExecution("another result")


@pytest.mark.parametrize(
    ("after", "content", "outcome"),
    [
        (retries, "not good enough", "retried"),
        (fails, "refused by the guard", "failed"),
        (skips, "another result", "success"),
    ],
)
async def test_what_a_hook_raises_is_the_end_of_the_call_over_a_pause(
    tmp_path: Path, after: Callable[[str, object], object], content: str, outcome: str
) -> None:
    def only_look(name: str, result: object) -> object:
        return after(name, result) if name == "look" else result

    did: list[str] = []
    script = ScriptedModel([Call("look"), Call("act")])
    agent = Agent(script.model, name="agent", tools=tools(did), capabilities=[Hooks(only_look)])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        assert SECRET not in json.dumps(run)
        await server.confirm(run)
    found = tool_returns(script)["look"]
    assert (content in str(found[0]), found[1]) == (True, outcome)
    assert did == ["look", "act"]


async def test_a_hook_that_breaks_ends_the_run_and_shows_nothing_of_the_result(tmp_path: Path) -> None:
    def breaks(name: str, _: object) -> object:
        raise LookupError(name)

    agent = Agent(ScriptedModel([Call("look")]).model, name="agent", tools=tools([]), capabilities=[Hooks(breaks)])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        dump = await server.dump()
    assert run["status"] == "ERROR"
    (call,) = dump["tool_calls"]
    assert (call["status"], call["outcome"]) == ("finished", "failed")
    assert SECRET not in json.dumps([run, dump["events"]], default=str)


async def test_a_result_in_place_of_a_tools_own_survives_a_pause_as_it_is(tmp_path: Path) -> None:
    class Cached(AbstractCapability[Any]):
        async def wrap_tool_execute(
            self,
            ctx: RunContext[Any],
            *,
            call: ToolCallPart,
            tool_def: ToolDefinition,
            args: dict[str, Any],
            handler: Callable[[dict[str, Any]], Awaitable[Any]],
        ) -> object:
            del ctx, tool_def
            return {"kept": [1]} if call.tool_name == "look" else await handler(args)

    did: list[str] = []
    script = ScriptedModel([Call("look"), Call("act")])
    agent = Agent(script.model, name="agent", tools=tools(did), capabilities=[Cached()])
    async with driving(tmp_path, agent) as server:
        await server.confirm(await server.run())
    assert (tool_returns(script)["look"], did) == (({"kept": [1]}, "success"), ["act"])


class Asking(AbstractCapability[Any]):
    """Asks before anybody gets what ``look`` gave."""

    async def after_tool_execute(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: dict[str, Any],
        result: object,
    ) -> object:
        del tool_def, args
        if call.tool_name == "look" and not ctx.tool_call_approved:
            raise ApprovalRequired
        return result


@pytest.mark.parametrize("confirmed", [True, False])
async def test_a_tool_whose_result_waits_for_an_approval_runs_once(tmp_path: Path, *, confirmed: bool) -> None:
    did: list[str] = []
    script = ScriptedModel([Call("look")])
    async with driving(
        tmp_path, Agent(script.model, name="agent", tools=tools(did), capabilities=[Asking()])
    ) as server:
        run = await server.run()
        (tool,) = open_tools(run)
        assert (tool["tool_name"], run["status"]) == ("look", "PAUSED")
        assert SECRET not in json.dumps([run, await server.read(run), (await server.dump())["events"]], default=str)
        (shown,) = run["requirements"]
        done = await server.answer_with(run, yes(tool) if confirmed else no(tool, "keep it"))
    assert did == ["look"]
    assert tool_returns(script)["look"] == ((SECRET, "success") if confirmed else ("keep it", "denied"))
    assert done["status"] == "COMPLETED"
    assert "look has run and does not run again" in json.dumps(shown)


class Careful(AbstractCapability[Any]):
    """Asks before any tool runs."""

    def __init__(self) -> None:
        self.approved: list[tuple[str, bool]] = []

    async def before_tool_execute(
        self, ctx: RunContext[Any], *, call: ToolCallPart, tool_def: ToolDefinition, args: dict[str, Any]
    ) -> dict[str, Any]:
        del tool_def
        self.approved.append((call.tool_name, ctx.tool_call_approved))
        if not ctx.tool_call_approved:
            raise ApprovalRequired
        return args


class Forgetful:
    """A model that calls both tools until it is sent its answer, whoever died meanwhile."""

    def __init__(self) -> None:
        self.requests: list[list[ModelMessage]] = []
        self.model = FunctionModel(stream_function=self._stream)

    async def _stream(self, messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        del info
        self.requests.append(list(messages))
        if any(isinstance(message, ModelResponse) for message in messages):
            yield "done"
            return
        for index, call in enumerate([Call("look", call_id="l"), Call("act", call_id="a")]):
            yield {index: call.delta()}


async def ended(
    did: list[str], capability: AbstractCapability[Any], dies_at: int, *, after: bool
) -> tuple[MortalJournal, Forgetful, list[str]]:
    """Let a run with both tools come to its end through one death; return what was confirmed, too."""
    model = Forgetful()
    agent = Agent(model.model, name="agent", tools=tools(did), capabilities=[capability])
    driver = PydanticAIDriver(agent, options_for(Settings(dev=True)))
    journal = MortalJournal(replace(setup_run("go", 1), source_type="API"), dies_at, after=after)
    confirmed: list[str] = []
    confirm = journal.confirm

    def noted(call_id: str) -> None:
        confirmed.append(call_id)
        confirm(call_id)

    journal.confirm = noted  # type: ignore[method-assign]
    end = await run_to_the_end(driver, journal, {})
    assert isinstance(end, Completed), end
    return journal, model, confirmed


async def deaths(capability: Callable[[], AbstractCapability[Any]]) -> list[tuple[int, bool]]:
    """Return each commit of an undisturbed run, before it and after it, but for the last: then the run has ended."""
    journal, _, _ = await ended([], capability(), 0, after=False)
    return [(at, after) for at in range(1, journal.commits + 1) for after in (False, True)][:-1]


async def test_whenever_the_process_dies_a_result_reaches_the_model_as_the_hooks_left_it() -> None:
    for dies_at, after in await deaths(lambda: Hooks(hidden)):
        did: list[str] = []
        hooks = Hooks(hidden)
        _, script, confirmed = await ended(did, hooks, dies_at, after=after)
        for request in script.requests:
            assert SECRET not in str(parts_of(request, ToolReturnPart)), (dies_at, after)
        assert Counter(did)["look"] <= 1 + confirmed.count("l"), (dies_at, after)
        assert Counter(did)["act"] <= confirmed.count("a"), (dies_at, after)


async def test_whenever_the_process_dies_hooks_are_told_of_no_approval_that_nobody_gave() -> None:
    for dies_at, after in await deaths(Careful):
        did: list[str] = []
        capability = Careful()
        _, script, confirmed = await ended(did, capability, dies_at, after=after)
        assert Counter(did)["look"] <= confirmed.count("l"), (dies_at, after)
        assert Counter(did)["act"] <= confirmed.count("a"), (dies_at, after)
        assert tool_returns(script)["look"][0] == SECRET


async def test_a_hook_that_a_restart_cut_off_has_its_turn_again_and_the_tool_has_not(tmp_path: Path) -> None:
    class Slow(Hooks):
        async def after_tool_execute(self, ctx: RunContext[Any], **hook: Any) -> object:  # noqa: ANN401 - the parts of the hook
            result = await super().after_tool_execute(ctx, **hook)
            if self.called[hook["call"].tool_name] == 1:
                await until_stopped.wait()
            return result

    until_stopped = asyncio.Event()
    did: list[str] = []
    hooks = Slow(hidden)
    script = ScriptedModel([Call("look")])
    agent = Agent(script.model, name="agent", tools=tools(did), capabilities=[hooks])
    async with driving(tmp_path, agent, shutdown_grace_seconds=0.1) as server:
        run = await server.begin("go", agent="agent")
        await until(lambda: hooks.called)
    (call,) = Place.in_folder(tmp_path).dump()["tool_calls"]
    assert (call["status"], call["result_text"]) == ("finished", None)
    async with driving(tmp_path, agent) as server:
        done = await server.settled(run)
    assert (did, hooks.called["look"], done["status"]) == (["look"], 2, "COMPLETED")
    assert tool_returns(script)["look"] == ("***", "success")
