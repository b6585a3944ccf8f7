"""Agents that are asked to pause: they stop before the next call, and what is held runs once, after the pause."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, PromptedOutput, RunContext, Tool, ToolOutput
from pydantic_ai.exceptions import ApprovalRequired
from pydantic_ai.messages import ToolReturnPart, UserPromptPart
from pydantic_ai.toolsets import ExternalToolset

from tests.agents.driver.driving import Driving, driving, no, open_tools, said_by_tools, yes
from tests.support.agents import RUN_SHELL, Call, ScriptedModel, Turn, parts_of
from tests.support.gates import Gates
from tests.support.pausing import (
    JsonObject,
    ask_to_pause,
    begin,
    continued,
    frames,
    post_continue,
    read,
    resumed,
    settled,
)


class Hands:
    """Tools that keep what they did, and pass the gate of their argument."""

    def __init__(self, *gates: str) -> None:
        self.did: list[str] = []
        self.gates = Gates(*gates)

    async def do(self, what: str) -> str:
        """Need nobody."""
        return await self._do("do", what)

    async def alone(self, what: str) -> str:
        """Run beside no other."""
        return await self._do("alone", what)

    async def act(self, what: str) -> str:
        """Need a confirmation."""
        return await self._do("act", what)

    async def _do(self, name: str, what: str) -> str:
        self.did.append(f"{name} {what}")
        await self.gates.pass_through(what)
        return f"{name} {what} done"


def _agent(script: ScriptedModel, hands: Hands, **more: Any) -> Agent[None, Any]:  # noqa: ANN401 - any argument
    tools = [Tool(hands.do), Tool(hands.alone, sequential=True), Tool(hands.act, requires_approval=True)]
    return Agent(script.model, name="agent", tools=tools, **more)


@asynccontextmanager
async def _begun(folder: Path, hands: Hands, agent: Agent[None, Any], gate: str) -> AsyncIterator[tuple[Driving, Any]]:
    """Serve the agent with a run that stands at the gate."""
    async with driving(folder, agent) as server:
        run = await begin(server.client)
        await hands.gates.reached(gate)
        yield server, run


async def _paused_at(server: Driving, hands: Hands, run: JsonObject, gate: str) -> JsonObject:
    """Ask the run, which stands at the gate, to pause; open the gate and return the run, paused."""
    await ask_to_pause(server.client, run)
    hands.gates.open(gate)
    paused = await settled(server.client, run)
    assert paused["status"] == "PAUSED"
    return paused


def _do(*names: str) -> list[Call]:
    return [Call("do", {"what": name}) for name in names]


def _alone(*names: str) -> list[Call]:
    return [Call("alone", {"what": name}) for name in names]


def _told(script: ScriptedModel) -> list[tuple[str, str]]:
    """Return what the model was told last by tools and by the user, in order."""
    found = parts_of(script.asked[-1], ToolReturnPart, UserPromptPart)
    return [(getattr(part, "tool_name", "user"), str(part.content)) for part in found]


async def test_a_run_in_a_tool_pauses_before_the_next_model_request(tmp_path: Path) -> None:
    hands = Hands("door")
    script = ScriptedModel(["Let me see.", *_do("door")], "all done")
    async with _begun(tmp_path, hands, _agent(script, hands), "door") as (server, run):
        paused = await _paused_at(server, hands, run, "door")
        assert len(script.asked) == 1
        assert [tool["result"] for tool in paused["tools"]] == ["do door done"]
        assert "requirements" not in paused
        assert paused["content"] == "Let me see."
        done = await continued(server.client, paused)
    assert (done["status"], done["content"], hands.did) == ("COMPLETED", "all done", ["do door"])
    assert "pause_id" not in done
    assert _told(script) == [("user", "go"), ("do", "do door done")]


async def test_calls_that_have_not_started_are_held_and_run_once_after_the_pause(tmp_path: Path) -> None:
    hands = Hands("b")
    script = ScriptedModel([*_alone("a"), *_alone("b"), *_do("c", "d"), *_alone("e")], "all done")
    async with _begun(tmp_path, hands, _agent(script, hands), "b") as (server, run):
        paused = await _paused_at(server, hands, run, "b")
        assert hands.did == ["alone a", "alone b"]
        assert [tool["result"] for tool in paused["tools"]] == ["alone a done", "alone b done", None, None, None]
        assert "requirements" not in paused
        assert not any(tool["requires_confirmation"] for tool in paused["tools"])
        done = await resumed(server.client, run, "carry on, but quietly")
    assert (done["status"], done["content"]) == ("COMPLETED", "all done")
    assert sorted(hands.did) == ["alone a", "alone b", "alone e", "do c", "do d"]
    results = [("alone", "a"), ("alone", "b"), ("do", "c"), ("do", "d"), ("alone", "e")]
    assert _told(script) == [
        ("user", "go"),
        *((name, f"{name} {what} done") for name, what in results),
        ("user", "carry on, but quietly"),
    ]
    assert [name for name, _ in said_by_tools(done)] == [name for name, _ in results]


async def test_what_is_held_outlives_a_restart(tmp_path: Path) -> None:
    hands = Hands("a")
    script = ScriptedModel(_alone("a", "b", "c"), "all done")
    async with _begun(tmp_path, hands, _agent(script, hands), "a") as (server, run):
        await _paused_at(server, hands, run, "a")
    async with driving(tmp_path, _agent(script, hands)) as server:
        assert (await read(server.client, run))["status"] == "PAUSED"
        done = await resumed(server.client, run, "go on")
    assert (done["status"], hands.did) == ("COMPLETED", ["alone a", "alone b", "alone c"])


async def test_parallel_calls_that_run_already_may_end(tmp_path: Path) -> None:
    hands = Hands("a", "b")
    script = ScriptedModel([*_do("a", "b"), *_alone("c")], "all done")
    async with _begun(tmp_path, hands, _agent(script, hands), "a") as (server, run):
        await hands.gates.reached("b")
        await ask_to_pause(server.client, run)
        hands.gates.open("b")
        paused = await _paused_at(server, hands, run, "a")
        assert [tool["result"] for tool in paused["tools"]] == ["do a done", "do b done", None]
        done = await continued(server.client, paused)
    assert (done["status"], sorted(hands.did)) == ("COMPLETED", ["alone c", "do a", "do b"])


async def test_the_answer_that_streams_is_recorded_whole_and_none_of_its_calls_run(tmp_path: Path) -> None:
    hands = Hands("think")
    script = ScriptedModel(["I will.", *_do("a", "b"), *_alone("c")], "all done")
    agent = _agent(script, hands)

    @agent.instructions
    async def think() -> str:
        await hands.gates.pass_through("think")
        return "Be brief."

    async with _begun(tmp_path, hands, agent, "think") as (server, run):
        paused = await _paused_at(server, hands, run, "think")
        assert len(script.asked) == 1
        assert (paused["content"], hands.did) == ("I will.", [])
        assert [tool["tool_args"]["what"] for tool in paused["tools"]] == ["a", "b", "c"]
        assert paused["messages"][-1]["role"] == "assistant"
        done = await continued(server.client, paused)
    assert (done["status"], sorted(hands.did)) == ("COMPLETED", ["alone c", "do a", "do b"])
    assert len(script.asked) == 2


async def test_calls_that_need_a_human_are_asked_about_and_those_held_beside_them_are_not(tmp_path: Path) -> None:
    hands = Hands("a")
    script = ScriptedModel(
        [*_alone("a"), Call("act", {"what": "x"}), *_do("b"), Call("run_shell", {"command": "ls"})], "all done"
    )
    agent = _agent(script, hands, toolsets=[ExternalToolset([RUN_SHELL])])
    async with _begun(tmp_path, hands, agent, "a") as (server, run):
        paused = await _paused_at(server, hands, run, "a")
        assert hands.did == ["alone a"]
        asked = [item["tool_execution"]["tool_name"] for item in paused["requirements"]]
        assert sorted(asked) == ["act", "run_shell"]
        brought = next(tool for tool in paused["tools"] if tool["tool_name"] == "run_shell")
        done = await server.answer(paused, *map(yes, open_tools(paused)), {**brought, "result": "files"})
    assert done["status"] == "COMPLETED"
    assert sorted(hands.did) == ["act x", "alone a", "do b"]
    assert [text for _, text in said_by_tools(done)] == ["alone a done", "act x done", "do b done", "files"]


async def test_confirmed_calls_that_are_held_run_once_without_another_question(tmp_path: Path) -> None:
    hands = Hands("a")
    acts = [Call("act", {"what": "x"}), Call("act", {"what": "y"})]
    script = ScriptedModel([*_alone("a"), *acts], "all done")
    async with driving(tmp_path, _agent(script, hands)) as server:
        run = await begin(server.client)
        await hands.gates.reached("a")
        hands.gates.open("a")
        asked = await settled(server.client, run)
        first, second = open_tools(asked)
        # Both confirmed, and asked to pause before anything of that could run.
        held = Gates("claim")
        enter = server.application.executor.execute

        async def execute(run_key: int) -> bool:
            await held.pass_through("claim")
            return await enter(run_key)

        server.application.executor.execute = execute  # type: ignore[method-assign]
        response = await post_continue(server.client, asked, yes(first), no(second, "not y"), background="true")
        assert response.status_code == 202
        await held.reached("claim")
        await ask_to_pause(server.client, run)
        held.open("claim")
        paused = await settled(server.client, run)
        assert (paused["status"], hands.did) == ("PAUSED", ["alone a"])
        assert [tool["confirmed"] for tool in paused["tools"]] == [None, True, False]
        assert open_tools(paused) == []
        done = await continued(server.client, paused)
    assert (done["status"], hands.did) == ("COMPLETED", ["alone a", "act x"])
    assert said_by_tools(done)[1:] == [("act", "act x done"), ("act", "not y")]


async def test_a_held_call_is_not_taken_for_an_approved_one(tmp_path: Path) -> None:
    hands = Hands("a")
    spent: list[int] = []

    script = ScriptedModel(
        [*_alone("a"), Call("spend", {"amount": 5}), Call("spend", {"amount": 50}), Call("pay", {"amount": 70})],
        "all done",
    )
    agent = _agent(script, hands)

    @agent.tool(sequential=True)
    def spend(ctx: RunContext[None], amount: int) -> str:
        """Spend money; much of it only with approval."""
        if amount > 10 and not ctx.tool_call_approved:
            raise ApprovalRequired
        spent.append(amount)
        return f"spent {amount}"

    def check(ctx: RunContext[None], amount: int) -> None:
        if amount > 10 and not ctx.tool_call_approved:
            raise ApprovalRequired

    @agent.tool_plain(args_validator=check)
    def pay(amount: int) -> str:
        """Spend money; a validator asks for the approval."""
        spent.append(amount)
        return f"paid {amount}"

    async with _begun(tmp_path, hands, agent, "a") as (server, run):
        paused = await _paused_at(server, hands, run, "a")
        assert [tool["tool_name"] for tool in open_tools(paused)] == ["pay"]
        asked = await server.confirm(paused)
        assert (asked["status"], spent) == ("PAUSED", [5, 70])
        assert [tool["tool_args"] for tool in open_tools(asked)] == [{"amount": 50}]
        done = await server.confirm(asked)
    assert (done["status"], spent) == ("COMPLETED", [5, 70, 50])


async def test_a_tool_that_wants_another_try_before_the_pause_is_told_after_it(tmp_path: Path) -> None:
    hands = Hands("a")

    script = ScriptedModel([Call("picky", {"what": "a"}), *_do("b")], "all done")
    agent = _agent(script, hands)

    @agent.tool_plain(sequential=True, retries=3)
    async def picky(what: str) -> str:
        """Want another try."""
        await hands.alone(what)
        detail = "not like this"
        raise ModelRetry(detail)

    async with _begun(tmp_path, hands, agent, "a") as (server, run):
        paused = await _paused_at(server, hands, run, "a")
        done = await continued(server.client, paused)
    assert (done["status"], hands.did) == ("COMPLETED", ["alone a", "do b"])
    assert "not like this" in str(script.asked[-1][-1])


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

    turn: Turn = [*_alone("a", "b"), _final()]
    script = ScriptedModel(turn, [_final("second")])
    output = ToolOutput(final_result, name="final_result")
    agent = _agent(script, hands, output_type=output, end_strategy=strategy, retries={"output": retries})

    @agent.instructions
    async def think() -> str:
        await hands.gates.pass_through("think")
        return ""

    # The pause is asked for before the model answers, or while the first of its calls runs.
    gate = "think" if before else "a"
    hands.gates.open("a" if before else "think")
    async with _begun(tmp_path, hands, agent, gate) as (server, run):
        paused = await _paused_at(server, hands, run, gate)
        assert hands.did == ([] if before else ["alone a"])
        assert [tool["tool_name"] for tool in paused["tools"]] == ["alone", "alone"]
        done = await continued(server.client, paused)
    assert (done["status"], json.loads(done["content"])) == ("COMPLETED", {"title": "T"})
    assert hands.did == ["alone a", "alone b"]
    # An answer that may not be sent back is the exception: its function runs before it is known that it is too early.
    assert taken == (["T"] if before or retries else ["T", "T"])


async def test_an_answer_from_before_the_users_new_words_is_not_the_last(tmp_path: Path) -> None:
    hands = Hands("a")
    script = ScriptedModel([*_alone("a", "b"), _final("old")], [_final("new")])
    agent = _agent(script, hands, output_type=Report)
    async with _begun(tmp_path, hands, agent, "a") as (server, run):
        await _paused_at(server, hands, run, "a")
        done = await resumed(server.client, run, "call it new")
    assert (done["status"], json.loads(done["content"])) == ("COMPLETED", {"title": "new"})
    assert hands.did == ["alone a", "alone b"]
    assert _told(script)[-1] == ("user", "call it new")


async def test_a_wrong_answer_is_sent_back_after_the_pause(tmp_path: Path) -> None:
    hands = Hands("check")
    script = ScriptedModel('{"title": "bad"}', '{"title": "good"}')
    agent = _agent(script, hands, output_type=PromptedOutput(Report), instructions="Be brief.")

    @agent.output_validator
    async def refuse(output: Report) -> Report:
        await hands.gates.pass_through("check")
        if output.title == "bad":
            detail = "a better title"
            raise ModelRetry(detail)
        return output

    async with _begun(tmp_path, hands, agent, "check") as (server, run):
        paused = await _paused_at(server, hands, run, "check")
        assert len(script.asked) == 1
        done = await continued(server.client, paused)
    assert (done["status"], json.loads(done["content"])) == ("COMPLETED", {"title": "good"})
    assert len(script.asked) == 2
    assert "a better title" in str(script.asked[1][-1])


async def test_a_wrong_answer_is_sent_back_with_the_users_new_words(tmp_path: Path) -> None:
    hands = Hands("check")
    script = ScriptedModel("bad", [Call("act", {"what": "x"})], "good")
    agent = _agent(script, hands, instructions="Be brief.")

    @agent.output_validator
    async def refuse(ctx: RunContext[None], output: str) -> str:
        if ctx.partial_output:
            return output
        await hands.gates.pass_through("check")
        if output == "bad":
            detail = "try harder"
            raise ModelRetry(detail)
        return output

    async with _begun(tmp_path, hands, agent, "check") as (server, run):
        await _paused_at(server, hands, run, "check")
        asked = await resumed(server.client, run, "be kind, too")
        done = await server.confirm(asked)
    assert (done["status"], done["content"]) == ("COMPLETED", "good")
    for messages in script.asked[1:]:
        text = str(messages)
        assert text.count("try harder") == text.count("be kind, too") == 1
        assert text.index("bad") < text.index("try harder") < text.index("be kind, too")
    assert ("user", "be kind, too") in [(message["role"], message.get("content")) for message in done["messages"]]


async def test_words_to_a_run_that_had_not_begun_are_read_after_those_it_was_made_with(tmp_path: Path) -> None:
    hands = Hands("a")
    script = ScriptedModel(_do("a"), "all done", "both done")
    async with driving(tmp_path, _agent(script, hands), max_running=1) as server:
        await begin(server.client)
        await hands.gates.reached("a")
        waiting = await begin(server.client, "one")
        await ask_to_pause(server.client, waiting)
        hands.gates.open("a")
        assert (await settled(server.client, waiting))["status"] == "PAUSED"
        done = await resumed(server.client, waiting, "two", key=2)
    assert (done["status"], done["content"]) == ("COMPLETED", "both done")
    assert [part.content for part in parts_of(script.asked[-1], UserPromptPart)] == [["one", "two"]]
    assert [message["content"] for message in done["messages"]] == ["one\ntwo", "both done"]


async def test_a_run_may_be_paused_again_and_again(tmp_path: Path) -> None:
    hands = Hands("a", "b", "c")
    script = ScriptedModel(_alone("a", "b"), _do("c"), "all done")
    async with _begun(tmp_path, hands, _agent(script, hands), "a") as (server, run):
        pauses = [await _paused_at(server, hands, run, "a")]
        for gate in ("b", "c"):
            response = await post_continue(server.client, run, background="true")
            assert response.status_code == 202
            await hands.gates.reached(gate)
            pauses.append(await _paused_at(server, hands, run, gate))
        done = await continued(server.client, run)
        events = [frame.event for frame in await frames(server.client, run)]
    assert (done["status"], hands.did) == ("COMPLETED", ["alone a", "alone b", "do c"])
    assert len({paused["pause_id"] for paused in pauses}) == 3
    assert events.count("RunPaused") == events.count("RunContinued") == 3
    assert events.count("ToolCallStarted") == events.count("ToolCallCompleted") == 3
