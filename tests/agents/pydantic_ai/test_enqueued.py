"""What a tool enqueues for the model reaches it once, whether people or a crash come in between."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.capabilities import Hooks as RunHooks
from pydantic_ai.messages import ModelMessage, ModelResponse, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from tests.agents.pydantic_ai.driving import driving
from tests.agents.pydantic_ai.test_hooked_results import Hooks
from tests.support.agents import Call, ScriptedModel, parts_of
from tests.support.mortal_journal import MortalJournal, run_to_the_end, setup_run
from tests.support.serving import options_for
from unpause.agents.driver import Completed
from unpause.agents.pydantic_ai.driver import PydanticAIDriver
from unpause.settings import Settings

HURRY = "The user is in a hurry."


def noting_agent(
    script: ScriptedModel,
    priority: Literal["asap", "when_idle"] = "asap",
    *,
    text: str = HURRY,
    raises: bool = False,
    **more: Any,  # noqa: ANN401 - any argument
) -> Agent[None, str]:
    """Return an agent with a tool that enqueues a text, and one that needs a confirmation."""
    agent = Agent(script.model, name="agent", **more)

    @agent.tool
    def note(ctx: RunContext[None]) -> str:
        ctx.enqueue(text, priority=priority)
        if raises:
            detail = "once more"
            raise ModelRetry(detail)
        return "noted"

    @agent.tool_plain(requires_approval=True)
    def act() -> str:
        return "acted"

    return agent


def prompts(messages: list[ModelMessage]) -> list[object]:
    """Return what the model reads as the user's words."""
    return [part.content for part in parts_of(messages, UserPromptPart)]


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("capabilities", [[], [Hooks()]])
async def test_what_a_tool_enqueues_reaches_the_model_after_a_pause(
    tmp_path: Path, *, raises: bool, capabilities: list[Any]
) -> None:
    script = ScriptedModel([Call("note"), Call("act")])
    async with driving(tmp_path, noting_agent(script, raises=raises, capabilities=capabilities)) as server:
        done = await server.confirm(await server.run())
    assert done["status"] == "COMPLETED"
    assert prompts(script.requests[-1]) == ["go", HURRY]
    assert [message["content"] for message in done["messages"] if message["role"] == "user"] == ["go", HURRY]


async def test_it_is_sent_once_however_often_the_run_pauses(tmp_path: Path) -> None:
    script = ScriptedModel([Call("note"), Call("act")], [Call("act")], [Call("act")])
    async with driving(tmp_path, noting_agent(script)) as server:
        run = await server.run()
        while run["status"] == "PAUSED":
            run = await server.confirm(run)
    assert [prompts(request) for request in script.requests] == [["go"], *[["go", HURRY]] * 3]


async def test_what_waits_for_the_end_of_the_run_waits_over_pauses(tmp_path: Path) -> None:
    script = ScriptedModel([Call("note"), Call("act")], [Call("act")], "the end", "after all")
    async with driving(tmp_path, noting_agent(script, "when_idle")) as server:
        run = await server.run()
        while run["status"] == "PAUSED":
            run = await server.confirm(run)
    assert [prompts(request) for request in script.requests] == [["go"]] * 3 + [["go", HURRY]]
    assert run["content"] == "after all"


async def test_what_a_hook_enqueues_reaches_the_model_once_after_each_pause(tmp_path: Path) -> None:
    hooks: RunHooks[None] = RunHooks()

    @hooks.on.after_model_request
    async def remind(ctx: RunContext[None], *, request_context: object, response: ModelResponse) -> ModelResponse:
        del request_context
        if response.tool_calls:
            ctx.enqueue(f"Reminder {len(script.requests)}\0")
        return response

    script = ScriptedModel([Call("act")], [Call("act")], "the end")
    agent = noting_agent(script, capabilities=[hooks])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
    async with driving(tmp_path, agent) as server:
        again = await server.confirm(run)
    async with driving(tmp_path, agent) as server:
        done = await server.confirm(again)
    assert (done["status"], done["content"]) == ("COMPLETED", "the end")
    assert [prompts(request) for request in script.requests] == [
        ["go"],
        ["go", "Reminder 1\ufffd"],
        ["go", "Reminder 1\ufffd", "Reminder 2\ufffd"],
    ]


async def test_more_than_a_result_may_have_is_not_kept_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = ScriptedModel([Call("note"), Call("act")])
    agent = noting_agent(script, text="x" * 5000)
    async with driving(tmp_path, agent, max_result_bytes=4096) as server:
        done = await server.confirm(await server.run())
    assert done["status"] == "COMPLETED"
    assert prompts(script.requests[-1]) == ["go"]
    assert "enqueued messages are not kept over a pause: too large" in capsys.readouterr().out


async def finished(dies_at: int, *, after: bool) -> tuple[MortalJournal, list[object]]:
    """Let a run come to its end through one death; return what its model read last as the user's words."""
    read: list[list[object]] = []

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        del info
        read.append(prompts(messages))
        turn = sum(isinstance(message, ModelResponse) for message in messages)
        if turn > 1:
            yield "done"
            return
        for index, call in enumerate([[Call("note", call_id="n"), Call("act", call_id="a")], [Call("act")]][turn]):
            yield {index: call.delta()}

    script = ScriptedModel()
    script.model = FunctionModel(stream_function=stream)
    driver = PydanticAIDriver(noting_agent(script), options_for(Settings(dev=True)))
    journal = MortalJournal(replace(setup_run("go", 1), source_type="API"), dies_at, after=after)
    end = await run_to_the_end(driver, journal, {})
    assert isinstance(end, Completed), end
    return journal, read[-1]


async def test_whenever_the_process_dies_it_is_read_once_for_each_time_that_its_tool_ran() -> None:
    journal, read = await finished(0, after=False)
    assert read == ["go", HURRY]
    for dies_at, after in [(at, after) for at in range(1, journal.commits + 1) for after in (False, True)][:-1]:
        died, read = await finished(dies_at, after=after)
        assert read == ["go", HURRY], (dies_at, after, [call.tool_call_id for call in died.doubts])
