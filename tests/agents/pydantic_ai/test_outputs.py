"""What a run ends with: text, structured values, what a validator sent back; and what the model was told first."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, PromptedOutput, RunContext, TextOutput, Tool
from pydantic_ai.capabilities import Hooks
from pydantic_ai.messages import RetryPromptPart, SystemPromptPart, ToolReturnPart
from pydantic_ai.run import AgentRunResult

from tests.agents.pydantic_ai.driving import driving, names
from tests.support.agents import Call, ScriptedModel, Thought, parts_of


class Report(BaseModel):
    """What the agent found."""

    title: str
    pages: int


FINAL = Call("final_result", {"title": "Ünits", "pages": 3})


async def test_a_structured_output_ends_the_run_as_json_with_its_type(tmp_path: Path) -> None:
    script = ScriptedModel([FINAL])
    async with driving(tmp_path, Agent(script.model, name="agent", output_type=Report)) as server:
        done = await server.run()
        stored = (await server.get(f"/agents/agent/runs/{done['run_id']}")).json()
    assert (done["status"], done["content_type"]) == ("COMPLETED", "Report")
    assert done["content"] == {"title": "Ünits", "pages": 3}
    assert stored["content"] == done["content"]


async def test_a_structured_output_of_the_wrong_shape_is_sent_back(tmp_path: Path) -> None:
    script = ScriptedModel([Call("final_result", {"title": 5})], [FINAL])
    async with driving(tmp_path, Agent(script.model, name="agent", output_type=Report)) as server:
        done = await server.run()
    assert (done["status"], done["content"]["pages"]) == ("COMPLETED", 3)
    assert len(script.requests) == 2


async def test_a_prompted_output_is_read_from_the_text(tmp_path: Path) -> None:
    script = ScriptedModel("no json", '{"title": "T", "pages": 1}')
    agent = Agent(script.model, name="agent", output_type=PromptedOutput(Report))
    async with driving(tmp_path, agent) as server:
        done = await server.run()
    assert (done["status"], done["content_type"]) == ("COMPLETED", "Report")
    assert done["content"] == {"title": "T", "pages": 1}


async def test_a_structured_output_may_follow_a_paused_tool(tmp_path: Path) -> None:
    did: list[str] = []

    def act() -> str:
        """Act."""
        did.append("act")
        return "acted"

    script = ScriptedModel([Call("act")], [FINAL])
    agent = Agent(script.model, name="agent", output_type=Report, tools=[Tool(act, requires_approval=True)])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        assert (run["status"], did) == ("PAUSED", [])
        done = await server.confirm(run)
    assert (done["status"], done["content_type"], did) == ("COMPLETED", "Report", ["act"])
    # The call that only carries the answer is nobody's to see.
    assert [tool["tool_name"] for tool in done["tools"]] == ["act"]


@pytest.mark.parametrize("first", [True, False])
async def test_a_final_output_beside_a_paused_tool_ends_the_run_without_the_tool(
    tmp_path: Path, *, first: bool
) -> None:
    did: list[str] = []

    def act() -> str:
        """Act."""
        did.append("act")
        return "acted"

    script = ScriptedModel([FINAL, Call("act")] if first else [Call("act"), FINAL])
    agent = Agent(script.model, name="agent", output_type=Report, tools=[Tool(act, requires_approval=True)])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
    assert (run["status"], run["content_type"], did, len(script.requests)) == ("COMPLETED", "Report", [], 1)


@pytest.mark.parametrize("first", [True, False])
async def test_a_wrong_output_beside_a_paused_tool_is_sent_back_with_its_result(tmp_path: Path, *, first: bool) -> None:
    did: list[str] = []

    def act() -> str:
        """Act."""
        did.append("act")
        return "acted"

    wrong = Call("final_result", {"title": 5})
    script = ScriptedModel([wrong, Call("act")] if first else [Call("act"), wrong], [FINAL])
    agent = Agent(script.model, name="agent", output_type=Report, tools=[Tool(act, requires_approval=True)])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        assert (run["status"], did) == ("PAUSED", [])
        run = await server.confirm(run)
    assert (run["status"], run["content_type"], did) == ("COMPLETED", "Report", ["act"])
    reported = {part.tool_name for part in parts_of(script.requests[1], ToolReturnPart, RetryPromptPart)}
    assert reported == {"act", "final_result"}


async def test_an_output_validator_may_send_the_answer_back(tmp_path: Path) -> None:
    script = ScriptedModel("short", "long enough")
    agent = Agent(script.model, name="agent")

    @agent.output_validator
    def check(ctx: RunContext[object], output: str) -> str:
        if ctx.partial_output:
            return output
        if len(output) < 8:
            detail = "too short"
            raise ModelRetry(detail)
        return output.upper()

    async with driving(tmp_path, agent) as server:
        done = await server.run()
    assert (done["status"], done["content"]) == ("COMPLETED", "LONG ENOUGH")
    assert "too short" in str(script.requests[1][-1])


async def test_an_agent_with_an_output_validator_can_pause(tmp_path: Path) -> None:
    def act() -> str:
        """Act."""
        return "acted"

    script = ScriptedModel([Call("act")], "short", "long enough")
    agent = Agent(script.model, name="agent", tools=[Tool(act, requires_approval=True)])

    @agent.output_validator
    def check(output: str) -> str:
        if output == "short":
            detail = "too short"
            raise ModelRetry(detail)
        return output

    async with driving(tmp_path, agent) as server:
        run = await server.run()
        assert run["status"] == "PAUSED"
        done = await server.confirm(run)
    assert (done["status"], done["content"]) == ("COMPLETED", "long enough")


async def test_an_output_that_never_pleases_ends_the_run_as_an_error(tmp_path: Path) -> None:
    script = ScriptedModel(*["no"] * 5)
    agent = Agent(script.model, name="agent", output_type=PromptedOutput(Report))
    async with driving(tmp_path, agent) as server:
        failed = await server.run()
    assert failed["status"] == "ERROR"
    assert len(script.requests) == 2


@pytest.mark.parametrize("with_system_prompt", [True, False])
async def test_instructions_and_system_prompts_reach_the_model_in_every_segment(
    tmp_path: Path, *, with_system_prompt: bool
) -> None:
    def act() -> str:
        """Act."""
        return "acted"

    script = ScriptedModel([Call("act")], "done")
    agent = Agent(
        script.model,
        name="agent",
        system_prompt="You are terse." if with_system_prompt else (),
        instructions="Answer in German.",
        tools=[Tool(act, requires_approval=True)],
    )
    async with driving(tmp_path, agent) as server:
        run = await server.run()
    async with driving(tmp_path, agent) as server:
        await server.confirm(run)
    assert len(script.requests) == 2
    for requested, info in zip(script.requests, script.infos, strict=True):
        prompts = [part.content for part in parts_of(requested, SystemPromptPart)]
        assert prompts == (["You are terse."] if with_system_prompt else [])
        assert info.instructions == "Answer in German."


async def test_the_transcript_begins_with_what_the_agent_was_told(tmp_path: Path) -> None:
    script = ScriptedModel("hello")
    agent = Agent(script.model, name="agent", system_prompt="You are terse.")
    async with driving(tmp_path, agent) as server:
        done = await server.run("hi")
    assert [(message["role"], message["content"]) for message in done["messages"]] == [
        ("system", "You are terse."),
        ("user", "hi"),
        ("assistant", "hello"),
    ]


async def test_thinking_is_told_apart_from_the_answer_and_kept_for_the_model(tmp_path: Path) -> None:
    def act() -> str:
        """Act."""
        return "acted"

    script = ScriptedModel([Thought("Let me think"), Call("act")], [Thought("So"), "answer"])
    agent = Agent(script.model, name="agent", tools=[Tool(act, requires_approval=True)])
    async with driving(tmp_path, agent) as server:
        events = await server.events()
        thoughts = [event for event in events if event["event"] == "RunContent"]
        assert [(event["content"], event["reasoning_content"]) for event in thoughts] == [("", "Let me think")]
        run = events[-1]
        assert (run["event"], run["content"]) == ("RunPaused", "I have tools to execute, but I need confirmation.")
        events = await server.events(run, *({**tool, "confirmed": True} for tool in run["tools"]))
        assert names(events)[-1] == "RunCompleted"
        assert events[-1]["content"] == "answer"
    kinds = [part.part_kind for part in script.requests[-1][1].parts]
    assert kinds == ["thinking", "tool-call"]


async def test_an_answer_without_any_words_is_asked_for_again(tmp_path: Path) -> None:
    script = ScriptedModel([""], "words")
    async with driving(tmp_path, Agent(script.model, name="agent")) as server:
        done = await server.run()
    assert (done["status"], done["content"], len(script.requests)) == ("COMPLETED", "words", 2)


def _counted(text: str) -> Any:  # noqa: ANN401 - an iterator has no schema
    """Count without end."""
    return {text: itertools.count()}


def _two(text: str) -> Any:  # noqa: ANN401
    """Count to two."""
    return {text: iter((1, 2))}


@pytest.mark.parametrize("where", ["function", "validator", "hook"])
async def test_an_answer_that_is_an_iterator_is_read_as_far_as_a_result_may_be_long(tmp_path: Path, where: str) -> None:
    make = _two
    hooks: Hooks[None] = Hooks()

    def answer(text: str) -> Any:  # noqa: ANN401
        return make(text) if where == "function" else text

    agent: Agent[None, Any] = Agent(
        ScriptedModel("n", "n").model,
        name="agent",
        capabilities=[hooks] if where == "hook" else [],
        output_type=TextOutput(answer),
    )
    if where == "validator":
        agent.output_validator(lambda text: make(text))  # noqa: PLW0108 - it changes

    @hooks.on.after_run
    async def count(ctx: RunContext[None], *, result: AgentRunResult[Any]) -> AgentRunResult[Any]:
        del ctx
        return replace(result, output=make(result.output))

    async with driving(tmp_path, agent, max_result_bytes=10_000) as server:
        done = await server.run()
        assert (done["status"], done["content"]) == ("COMPLETED", {"n": [1, 2]})
        make = _counted
        failed = await server.run()
    assert failed["status"] == "ERROR"
    assert failed["content"] == "The agent's answer was not kept: it has more than 10000 bytes"
