"""What of a session's earlier runs the model is given."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
from pydantic_ai import Agent, Tool
from pydantic_ai.capabilities import ProcessHistory
from pydantic_ai.messages import ModelMessage, ModelRequest, SystemPromptPart, TextPart, UserPromptPart

from tests.agents.pydantic_ai.driving import driving, open_tools, yes
from tests.support.agents import Call, ScriptedModel, parts_of


def _said(messages: list[ModelMessage]) -> list[str]:
    """Return what user and model said, in order."""
    return [str(part.content) for part in parts_of(messages, UserPromptPart, TextPart)]


def act() -> str:
    """Act."""
    return "acted"


def _agent(script: ScriptedModel) -> Agent[None, str]:
    return Agent(script.model, name="agent", system_prompt="You are terse.", tools=[Tool(act, requires_approval=True)])


async def test_completed_runs_of_the_session_are_the_history(tmp_path: Path) -> None:
    script = ScriptedModel("one", "two", "three")
    async with driving(tmp_path, _agent(script)) as server:
        for message in ("first", "second", "third"):
            await server.run(message, session_id="s")
    assert _said(script.requests[2]) == ["first", "one", "second", "two", "third"]


async def test_the_history_holds_the_tool_calls_of_runs_that_paused_and_completed(tmp_path: Path) -> None:
    script = ScriptedModel([Call("act")], "acted on it", "two")
    async with driving(tmp_path, _agent(script)) as server:
        await server.confirm(await server.run("first", session_id="s"))
        await server.run("second", session_id="s")
    kinds = [part.part_kind for message in script.requests[-1] for part in message.parts]
    assert kinds == ["system-prompt", "user-prompt", "tool-call", "tool-return", "text", "user-prompt"]


async def test_only_the_last_runs_are_the_history(tmp_path: Path) -> None:
    script = ScriptedModel(*(f"answer {n}" for n in range(5)))
    async with driving(tmp_path, _agent(script), history_runs=2) as server:
        for n in range(5):
            await server.run(f"message {n}", session_id="s")
    assert _said(script.requests[4]) == ["message 2", "answer 2", "message 3", "answer 3", "message 4"]


async def test_without_history_every_run_begins_anew(tmp_path: Path) -> None:
    script = ScriptedModel("one", "two")
    async with driving(tmp_path, _agent(script), history_runs=0) as server:
        await server.run("first", session_id="s")
        await server.run("second", session_id="s")
    assert _said(script.requests[1]) == ["second"]


async def test_paused_and_failed_runs_are_no_history(tmp_path: Path) -> None:
    script = ScriptedModel([Call("act")], RuntimeError("no model"), "three")
    async with driving(tmp_path, _agent(script)) as server:
        assert (await server.run("paused", session_id="s"))["status"] == "PAUSED"
        assert (await server.run("failed", session_id="s"))["status"] == "ERROR"
        await server.run("third", session_id="s")
    assert _said(script.requests[2]) == ["third"]


async def test_other_sessions_and_later_runs_are_no_history(tmp_path: Path) -> None:
    script = ScriptedModel("elsewhere", [Call("act")], "later", "done")
    async with driving(tmp_path, _agent(script)) as server:
        await server.run("other", session_id="t")
        run = await server.run("first", session_id="s")
        await server.run("second", session_id="s")
        await server.confirm(run)
    assert _said(script.requests[1]) == ["first"]
    assert _said(script.requests[3]) == ["first"]


async def test_the_history_is_the_same_before_and_after_a_pause(tmp_path: Path) -> None:
    script = ScriptedModel("one", [Call("act")], "two")
    async with driving(tmp_path, _agent(script)) as server:
        await server.run("first", session_id="s")
        run = await server.run("second", session_id="s")
    async with driving(tmp_path, _agent(script)) as server:
        await server.confirm(run)
    assert _said(script.requests[2]) == ["first", "one", "second"]
    assert script.requests[2][: len(script.requests[1])] == script.requests[1]


async def test_the_system_prompt_is_there_once_even_when_the_first_run_is_out_of_sight(tmp_path: Path) -> None:
    script = ScriptedModel(*(f"answer {n}" for n in range(4)))
    async with driving(tmp_path, _agent(script), history_runs=1) as server:
        for n in range(4):
            await server.run(f"message {n}", session_id="s")
    for requested in script.requests:
        assert [part.content for part in parts_of(requested, SystemPromptPart)] == ["You are terse."]
        assert isinstance(requested[0].parts[0], SystemPromptPart)


async def test_ids_that_repeat_what_an_earlier_run_used_do_no_harm(tmp_path: Path) -> None:
    script = ScriptedModel([Call("act", {}, "call_0")], "one", [Call("act", {}, "call_0")], "two")
    async with driving(tmp_path, _agent(script)) as server:
        for content in ("one", "two"):
            run = await server.run("go", session_id="s")
            done = await server.answer_with(run, *map(yes, open_tools(run)))
            assert (done["status"], done["content"]) == ("COMPLETED", content)


PROCESSORS: dict[str, Callable[[list[ModelMessage]], list[ModelMessage]]] = {
    "the last two": lambda messages: messages[-2:],
    "the last one": lambda messages: messages[-1:],
    "copies": deepcopy,
    "copies of the last two": lambda messages: deepcopy(messages[-2:]),
    "a summary": lambda messages: [ModelRequest([UserPromptPart("so far")]), *messages[-1:]],
    "requests": lambda messages: [message for message in messages if isinstance(message, ModelRequest)],
}


@pytest.mark.parametrize("kept", PROCESSORS)
async def test_what_a_history_processor_takes_out_is_on_record_all_the_same(tmp_path: Path, kept: str) -> None:
    ran: list[str] = []

    def look() -> str:
        """Look."""
        ran.append("look")
        return "seen"

    def ask() -> str:
        """Ask."""
        ran.append("ask")
        return "asked"

    script = ScriptedModel([Call("look")], [Call("look")], [Call("ask")], [Call("look")], "done")
    tools = [Tool(look), Tool(ask, requires_approval=True)]
    agent = Agent(script.model, name="agent", tools=tools, capabilities=[ProcessHistory(PROCESSORS[kept])])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
    async with driving(tmp_path, agent) as server:
        done = await server.confirm(run)
    assert (done["status"], done["content"]) == ("COMPLETED", "done")
    assert ran == [tool["tool_name"] for tool in done["tools"]] == ["look", "look", "ask", "look"]
    roles = ["user", *["assistant", "tool"] * 4, "assistant"]
    assert [message["role"] for message in done["messages"]] == roles
