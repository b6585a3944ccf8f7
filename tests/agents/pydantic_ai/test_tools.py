"""What tools can do to a run: fail, ask for another try, be called wrongly, be slow, and give back anything."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, RunContext, Tool
from pydantic_ai.messages import (
    BinaryContent,
    ModelRequest,
    RetryPromptPart,
    ToolReturn,
    ToolReturnPart,
    UserPromptPart,
)

from tests.agents.pydantic_ai.driving import driving, names, open_tools, said_by_tools, yes
from tests.support.agents import Call, ScriptedModel, parts_of


async def test_the_model_is_told_that_a_tool_failed_and_the_run_goes_on(tmp_path: Path) -> None:
    def explode() -> str:
        """Explode."""
        detail = "disk on fire"
        raise OSError(detail)

    script = ScriptedModel([Call("explode")], "I see")
    async with driving(tmp_path, Agent(script.model, name="agent", tools=[explode])) as server:
        events = await server.events()
    assert names(events) == [
        "RunStarted",
        "ModelRequestStarted",
        "ModelRequestCompleted",
        "ToolCallStarted",
        "ToolCallCompleted",
        "ToolCallError",
        "ModelRequestStarted",
        "RunContent",
        "ModelRequestCompleted",
        "RunContentCompleted",
        "RunCompleted",
    ]
    error = next(event for event in events if event["event"] == "ToolCallError")
    assert (error["error"], error["tool"]["tool_call_error"]) == ("disk on fire", True)
    (result,) = parts_of(script.requests[-1], ToolReturnPart)
    assert (result.content, result.outcome) == ("disk on fire", "failed")


async def test_a_confirmed_tool_that_fails_has_failed_once(tmp_path: Path) -> None:
    tries: list[int] = []

    def explode() -> str:
        """Explode."""
        tries.append(1)
        raise RuntimeError

    script = ScriptedModel([Call("explode")], "I see")
    agent = Agent(script.model, name="agent", tools=[Tool(explode, requires_approval=True)])
    async with driving(tmp_path, agent) as server:
        done = await server.confirm(await server.run())
    assert (done["status"], tries) == ("COMPLETED", [1])
    assert said_by_tools(done) == [("explode", "RuntimeError")]
    assert (done["tools"][0]["tool_call_error"], done["tools"][0]["confirmed"]) == (True, True)


async def test_a_failed_free_call_beside_a_paused_one_is_not_run_again(tmp_path: Path) -> None:
    tries: list[str] = []

    def explode() -> str:
        """Explode."""
        tries.append("explode")
        detail = "boom"
        raise RuntimeError(detail)

    def picky() -> str:
        """Ask for another try."""
        tries.append("picky")
        detail = "say please"
        raise ModelRetry(detail)

    def act() -> str:
        """Act."""
        tries.append("act")
        return "acted"

    script = ScriptedModel([Call("explode"), Call("picky"), Call("act")], "done")
    agent = Agent(script.model, name="agent", tools=[explode, picky, Tool(act, requires_approval=True)])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        done = await server.confirm(run)
    assert sorted(tries) == ["act", "explode", "picky"]
    assert done["status"] == "COMPLETED"
    reported = {part.tool_name: part for part in parts_of(script.requests[-1], ToolReturnPart, RetryPromptPart)}
    assert set(reported) == {"explode", "picky", "act"}
    assert "boom" in str(reported["explode"].content)
    assert "say please" in str(reported["picky"].content)
    assert reported["act"].content == "acted"


async def test_a_tool_may_ask_the_model_for_another_try(tmp_path: Path) -> None:
    def find(name: str) -> str:
        """Find somebody."""
        if name != "Ada Lovelace":
            detail = "give the full name"
            raise ModelRetry(detail)
        return "found"

    script = ScriptedModel([Call("find", {"name": "Ada"})], [Call("find", {"name": "Ada Lovelace"})], "done")
    async with driving(tmp_path, Agent(script.model, name="agent", tools=[find])) as server:
        done = await server.run()
    assert (done["status"], done["content"]) == ("COMPLETED", "done")
    assert [tool["tool_call_error"] for tool in done["tools"]] == [True, False]
    assert "give the full name" in str(script.requests[1][-1])


async def test_a_tool_that_never_likes_its_call_ends_the_run_as_an_error(tmp_path: Path) -> None:
    def find() -> str:
        """Find nothing."""
        detail = "again"
        raise ModelRetry(detail)

    script = ScriptedModel(*[[Call("find")]] * 5)
    async with driving(tmp_path, Agent(script.model, name="agent", tools=[find])) as server:
        failed = await server.run()
    assert failed["status"] == "ERROR"
    assert "find" in failed["content"]
    assert len(script.requests) == 2


@pytest.mark.parametrize("args", [{"n": "many"}, {}, '{"n": ', "[1]", "null", '"x"', ""])
async def test_arguments_that_do_not_fit_are_told_to_the_model_and_nothing_runs(
    tmp_path: Path, args: dict[str, Any] | str
) -> None:
    did: list[int] = []

    def count(n: int) -> str:
        """Count."""
        did.append(n)
        return f"counted {n}"

    script = ScriptedModel([Call("count", args)], [Call("count", {"n": 3})], "done")
    async with driving(tmp_path, Agent(script.model, name="agent", tools=[count])) as server:
        done = await server.run()
    assert (done["status"], done["content"], did) == ("COMPLETED", "done", [3])
    assert len(parts_of([script.requests[1][-1]], RetryPromptPart, ToolReturnPart)) == 1
    assert [tool["tool_call_error"] for tool in done["tools"]] == [True, False]


async def test_wrong_arguments_of_a_tool_that_needs_a_confirmation_never_reach_the_human(tmp_path: Path) -> None:
    did: list[int] = []

    def count(n: int) -> str:
        """Count."""
        did.append(n)
        return f"counted {n}"

    script = ScriptedModel([Call("count", {"n": "many"})], [Call("count", {"n": 3})], "done")
    agent = Agent(script.model, name="agent", tools=[Tool(count, requires_approval=True)])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        assert [tool["tool_args"] for tool in open_tools(run)] == [{"n": 3}]
        done = await server.confirm(run)
    assert (done["status"], did) == ("COMPLETED", [3])


async def test_wrong_arguments_beside_a_paused_call_are_told_when_the_run_goes_on(tmp_path: Path) -> None:
    did: list[int] = []

    def count(n: int) -> str:
        """Count."""
        did.append(n)
        return f"counted {n}"

    def act() -> str:
        """Act."""
        did.append(-1)
        return "acted"

    script = ScriptedModel([Call("count", {"n": "many"}), Call("act"), Call("no_such_tool")], "done")
    agent = Agent(script.model, name="agent", tools=[count, Tool(act, requires_approval=True)])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        assert [tool["tool_name"] for tool in open_tools(run)] == ["act"]
        done = await server.confirm(run)
    assert (done["status"], did) == ("COMPLETED", [-1])
    reported = {part.tool_name for part in parts_of(script.requests[-1], ToolReturnPart, RetryPromptPart)}
    assert reported == {"count", "act", "no_such_tool"}


async def test_a_tool_that_does_not_exist_is_told_to_the_model(tmp_path: Path) -> None:
    script = ScriptedModel([Call("format_disk", {"disk": "c"})], "sorry")
    async with driving(tmp_path, Agent(script.model, name="agent", tools=[Tool(lambda: "x", name="real")])) as server:
        done = await server.run()
    assert (done["status"], done["content"]) == ("COMPLETED", "sorry")
    assert "format_disk" in str(script.requests[1][-1])
    assert [(tool["tool_name"], tool["tool_call_error"]) for tool in done["tools"]] == [("format_disk", True)]


async def test_tools_may_be_async_or_not_and_take_the_context(tmp_path: Path) -> None:
    async def later(ctx: RunContext[None], text: str) -> str:
        """Wait for nothing."""
        await asyncio.sleep(0)
        return f"{text} of {ctx.tool_name}"

    def now(text: str) -> str:
        """Do not wait."""
        return text.upper()

    script = ScriptedModel([Call("later", {"text": "a"}), Call("now", {"text": "b"})], "done")
    agent = Agent(script.model, name="agent", tools=[later, Tool(now, requires_approval=True)])
    async with driving(tmp_path, agent) as server:
        done = await server.confirm(await server.run())
    assert said_by_tools(done) == [("later", "a of later"), ("now", "B")]


async def test_a_tool_that_blocks_its_thread_does_not_block_the_server(tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def wait() -> str:
        """Wait for the test."""
        entered.set()
        assert leave.wait(timeout=30)
        return "waited"

    script = ScriptedModel([Call("wait")], "done")
    async with driving(tmp_path, Agent(script.model, name="agent", tools=[wait])) as server:
        running = asyncio.create_task(server.run())
        assert await asyncio.to_thread(entered.wait, 30)
        assert (await server.get("/health")).status_code == 200
        shown = (await server.get("/v1/organizations/1/agent/run/1")).json()
        assert shown["status"] == "ACTIVE"
        assert not running.done()
        leave.set()
        assert (await running)["content"] == "done"


async def test_content_beside_a_result_reaches_the_model_also_after_a_pause(tmp_path: Path) -> None:
    def look() -> ToolReturn[str]:
        """Look at something."""
        picture = BinaryContent(b"\x89PNG\r\n\x1a\n", media_type="image/png")
        return ToolReturn("seen", content=["a picture:", picture], metadata={"private": 1})

    def act() -> str:
        """Act."""
        return "acted"

    script = ScriptedModel([Call("look"), Call("act")], "done")
    agent = Agent(script.model, name="agent", tools=[look, Tool(act, requires_approval=True)])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        assert run["tools"][0]["result"] == "seen"
    async with driving(tmp_path, agent) as server:
        done = await server.confirm(run)
    assert said_by_tools(done) == [("look", "seen"), ("act", "acted")]
    (request,) = [message for message in script.requests[-1][1:] if isinstance(message, ModelRequest)]
    (provided,) = parts_of([request], UserPromptPart)
    assert provided.content[0] == "a picture:"
    assert provided.content[1].data == b"\x89PNG\r\n\x1a\n"


class Weather(BaseModel):
    """Something structured."""

    degrees: float
    words: list[str]


@dataclass
class Point:
    """Something structured, too."""

    x: int
    y: int


@pytest.mark.parametrize(
    ("returned", "shown"),
    [
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ([1, 2], "[1,2]"),
        (5, "5"),
        (None, "null"),
        (True, "true"),
        ("ü", "ü"),
        ("", ""),
        (Weather(degrees=1.5, words=["dry"]), '{"degrees":1.5,"words":["dry"]}'),
        (Point(1, 2), '{"x":1,"y":2}'),
    ],
    ids=repr,
)
async def test_a_result_of_any_json_type_is_the_same_with_a_pause_between_or_without(
    tmp_path: Path, returned: object, shown: str
) -> None:
    def give() -> object:
        """Give something."""
        return returned

    def act() -> str:
        """Act."""
        return "acted"

    script = ScriptedModel([Call("give")], [Call("give"), Call("act")], "done")
    agent = Agent(script.model, name="agent", tools=[give, Tool(act, requires_approval=True)])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        await server.confirm(run)
    assert [tool["result"] for tool in run["tools"][:2]] == [shown, shown]
    first, second = [part for part in parts_of(script.requests[-1], ToolReturnPart) if part.tool_name == "give"]
    assert first.model_response_str() == second.model_response_str()


async def test_many_free_calls_of_one_answer_all_run(tmp_path: Path) -> None:
    did: list[int] = []

    async def add(n: int) -> int:
        """Add."""
        did.append(n)
        return n

    script = ScriptedModel([Call("add", {"n": n}) for n in range(30)], "done")
    async with driving(tmp_path, Agent(script.model, name="agent", tools=[add])) as server:
        done = await server.run()
    assert sorted(did) == list(range(30))
    assert [content for _, content in said_by_tools(done)] == [str(n) for n in range(30)]


async def test_a_call_answered_while_another_waits_runs_only_when_all_are_answered(tmp_path: Path) -> None:
    did: list[int] = []

    def act(n: int) -> str:
        """Act."""
        did.append(n)
        return f"acted {n}"

    script = ScriptedModel([Call("act", {"n": 1}), Call("act", {"n": 2})], "done")
    agent = Agent(script.model, name="agent", tools=[Tool(act, requires_approval=True)])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        partly = await server.answer_with(run, yes(run["tools"][1]))
        assert (partly["status"], did) == ("PAUSED", [])
        done = await server.answer_with(partly, yes(partly["tools"][0]))
    assert (done["status"], sorted(did)) == ("COMPLETED", [1, 2])


async def test_a_picture_as_a_result_is_the_same_for_the_model_after_a_pause(tmp_path: Path) -> None:
    def look() -> BinaryContent:
        """Look at something."""
        return BinaryContent(b"\x89PNG\r\n\x1a\n", media_type="image/png")

    def act() -> str:
        """Act."""
        return "acted"

    script = ScriptedModel([Call("look")], [Call("look"), Call("act")], "done")
    agent = Agent(script.model, name="agent", tools=[look, Tool(act, requires_approval=True)])
    async with driving(tmp_path, agent) as server:
        done = await server.confirm(await server.run())
    assert done["status"] == "COMPLETED"
    results = [part for part in parts_of(script.requests[-1], ToolReturnPart) if part.tool_name == "look"]
    assert [(part.content.data, part.content.media_type) for part in results] == [
        (b"\x89PNG\r\n\x1a\n", "image/png")
    ] * 2
