"""Agents that are asked to pause beside their answer: it does not end the run while calls are held or words unread."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel
from pydantic_ai import ModelRetry, PromptedOutput, RunContext, ToolOutput

from tests.agents.pydantic_ai.stopping import Hands, alone, begun, handy_agent, paused_at, reported
from tests.support.agents import Call, ScriptedModel, Turn


class Report(BaseModel):
    """What the agent found."""

    title: str


def _final(title: object = "T") -> Call:
    return Call("final_result", {"title": title})


Strategy = Literal["early", "graceful", "exhaustive"]


@pytest.mark.parametrize("retries", [0, 1])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("strategy", ["graceful", "exhaustive"])
async def test_an_answer_beside_held_calls_does_not_end_the_run_without_them(
    tmp_path: Path, *, strategy: Strategy, before: bool, retries: int
) -> None:
    hands = Hands("think", "a")
    taken: list[str] = []

    def final_result(title: str) -> Report:
        """Take the answer."""
        taken.append(title)
        return Report(title=title)

    turn: Turn = [*alone("a", "b"), _final()]
    script = ScriptedModel(turn, [_final("second")])
    output = ToolOutput(final_result, name="final_result")
    agent = handy_agent(script, hands, output_type=output, end_strategy=strategy, retries={"output": retries})

    @agent.instructions
    async def think() -> str:
        await hands.gates.pass_through("think")
        return ""

    # The pause is asked for before the model answers, or while the first of its calls runs.
    gate = "think" if before else "a"
    hands.gates.open("a" if before else "think")
    async with begun(tmp_path, hands, agent, gate) as (server, run):
        paused = await paused_at(server, hands, run, gate)
        assert hands.did == ([] if before else ["alone a"])
        assert [tool["tool_name"] for tool in paused["tools"]] == ["alone", "alone"]
        done = await server.continued(paused)
    assert (done["status"], done["content"]) == ("COMPLETED", {"title": "T"})
    assert hands.did == ["alone a", "alone b"]
    assert taken == ["T"]


async def test_an_answer_from_before_the_users_new_words_is_not_the_last(tmp_path: Path) -> None:
    hands = Hands("a")
    script = ScriptedModel([*alone("a", "b"), _final("old")], [_final("new")])
    agent = handy_agent(script, hands, output_type=Report)
    async with begun(tmp_path, hands, agent, "a") as (server, run):
        await paused_at(server, hands, run, "a")
        done = await server.resumed(run, "call it new")
    assert (done["status"], done["content"]) == ("COMPLETED", {"title": "new"})
    assert hands.did == ["alone a", "alone b"]
    assert reported(script)[-1] == ("user", "call it new")


async def test_a_wrong_answer_is_sent_back_after_the_pause(tmp_path: Path) -> None:
    hands = Hands("check")
    script = ScriptedModel('{"title": "bad"}', '{"title": "good"}')
    agent = handy_agent(script, hands, output_type=PromptedOutput(Report), instructions="Be brief.")

    @agent.output_validator
    async def refuse(output: Report) -> Report:
        await hands.gates.pass_through("check")
        if output.title == "bad":
            detail = "a better title"
            raise ModelRetry(detail)
        return output

    async with begun(tmp_path, hands, agent, "check") as (server, run):
        paused = await paused_at(server, hands, run, "check")
        assert len(script.requests) == 1
        done = await server.continued(paused)
    assert (done["status"], done["content"]) == ("COMPLETED", {"title": "good"})
    assert len(script.requests) == 2
    assert "a better title" in str(script.requests[1][-1])


async def test_a_wrong_answer_is_sent_back_with_the_users_new_words(tmp_path: Path) -> None:
    hands = Hands("check")
    script = ScriptedModel("bad", [Call("act", {"what": "x"})], "good")
    agent = handy_agent(script, hands, instructions="Be brief.")

    @agent.output_validator
    async def refuse(ctx: RunContext[None], output: str) -> str:
        if ctx.partial_output:
            return output
        await hands.gates.pass_through("check")
        if output == "bad":
            detail = "try harder"
            raise ModelRetry(detail)
        return output

    async with begun(tmp_path, hands, agent, "check") as (server, run):
        await paused_at(server, hands, run, "check")
        requested = await server.resumed(run, "be kind, too")
        done = await server.confirm(requested)
    assert (done["status"], done["content"]) == ("COMPLETED", "good")
    for messages in script.requests[1:]:
        text = str(messages)
        assert text.count("try harder") == text.count("be kind, too") == 1
        assert text.index("bad") < text.index("try harder") < text.index("be kind, too")
    assert ("user", "be kind, too") in [(message["role"], message.get("content")) for message in done["messages"]]
