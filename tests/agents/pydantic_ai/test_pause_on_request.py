"""Agents that are asked to pause: they stop before the next call, and what is held runs once, after the pause."""

from __future__ import annotations

from pathlib import Path

from pydantic_ai import ModelRetry, RunContext
from pydantic_ai.exceptions import ApprovalRequired
from pydantic_ai.messages import UserPromptPart
from pydantic_ai.toolsets import ExternalToolset

from tests.agents.pydantic_ai.driving import driving, no, open_tools, said_by_tools, yes
from tests.agents.pydantic_ai.stopping import Hands, alone, begun, do, handy_agent, paused_at, reported
from tests.support.agents import RUN_SHELL, Call, ScriptedModel, parts_of
from tests.support.gates import Gates
from unpause.services.claims import Claimed


async def test_a_run_in_a_tool_pauses_before_the_next_model_request(tmp_path: Path) -> None:
    hands = Hands("door")
    script = ScriptedModel(["Let me see.", *do("door")], "all done")
    async with begun(tmp_path, hands, handy_agent(script, hands), "door") as (server, run):
        paused = await paused_at(server, hands, run, "door")
        assert len(script.requests) == 1
        assert [tool["result"] for tool in paused["tools"]] == ["do door done"]
        assert "requirements" not in paused
        assert paused["content"] == "Let me see."
        done = await server.continued(paused)
    assert (done["status"], done["content"], hands.did) == ("COMPLETED", "all done", ["do door"])
    assert "pause_id" not in done
    assert reported(script) == [("user", "go"), ("do", "do door done")]


async def test_calls_that_have_not_started_are_held_and_run_once_after_the_pause(tmp_path: Path) -> None:
    hands = Hands("b")
    script = ScriptedModel([*alone("a"), *alone("b"), *do("c", "d"), *alone("e")], "all done")
    async with begun(tmp_path, hands, handy_agent(script, hands), "b") as (server, run):
        paused = await paused_at(server, hands, run, "b")
        assert hands.did == ["alone a", "alone b"]
        assert [tool["result"] for tool in paused["tools"]] == ["alone a done", "alone b done", None, None, None]
        assert "requirements" not in paused
        assert not any(tool["requires_confirmation"] for tool in paused["tools"])
        done = await server.resumed(run, "carry on, but quietly")
    assert (done["status"], done["content"]) == ("COMPLETED", "all done")
    assert sorted(hands.did) == ["alone a", "alone b", "alone e", "do c", "do d"]
    results = [("alone", "a"), ("alone", "b"), ("do", "c"), ("do", "d"), ("alone", "e")]
    assert reported(script) == [
        ("user", "go"),
        *((name, f"{name} {what} done") for name, what in results),
        ("user", "carry on, but quietly"),
    ]
    assert [name for name, _ in said_by_tools(done)] == [name for name, _ in results]


async def test_what_is_held_outlives_a_restart(tmp_path: Path) -> None:
    hands = Hands("a")
    script = ScriptedModel(alone("a", "b", "c"), "all done")
    async with begun(tmp_path, hands, handy_agent(script, hands), "a") as (server, run):
        await paused_at(server, hands, run, "a")
    async with driving(tmp_path, handy_agent(script, hands)) as server:
        assert (await server.read(run))["status"] == "PAUSED"
        done = await server.resumed(run, "go on")
    assert (done["status"], hands.did) == ("COMPLETED", ["alone a", "alone b", "alone c"])


async def test_parallel_calls_that_run_already_may_end(tmp_path: Path) -> None:
    hands = Hands("a", "b")
    script = ScriptedModel([*do("a", "b"), *alone("c")], "all done")
    async with begun(tmp_path, hands, handy_agent(script, hands), "a") as (server, run):
        await hands.gates.reached("b")
        await server.pause(run)
        hands.gates.open("b")
        paused = await paused_at(server, hands, run, "a")
        assert [tool["result"] for tool in paused["tools"]] == ["do a done", "do b done", None]
        done = await server.continued(paused)
    assert (done["status"], sorted(hands.did)) == ("COMPLETED", ["alone c", "do a", "do b"])


async def test_the_answer_that_streams_is_recorded_whole_and_none_of_its_calls_run(tmp_path: Path) -> None:
    hands = Hands("think")
    script = ScriptedModel(["I will.", *do("a", "b"), *alone("c")], "all done")
    agent = handy_agent(script, hands)

    @agent.instructions
    async def think() -> str:
        await hands.gates.pass_through("think")
        return "Be brief."

    async with begun(tmp_path, hands, agent, "think") as (server, run):
        paused = await paused_at(server, hands, run, "think")
        assert len(script.requests) == 1
        assert (paused["content"], hands.did) == ("I will.", [])
        assert [tool["tool_args"]["what"] for tool in paused["tools"]] == ["a", "b", "c"]
        assert paused["messages"][-1]["role"] == "assistant"
        done = await server.continued(paused)
    assert (done["status"], sorted(hands.did)) == ("COMPLETED", ["alone c", "do a", "do b"])
    assert len(script.requests) == 2


async def test_calls_that_need_a_human_are_asked_about_and_those_held_beside_them_are_not(tmp_path: Path) -> None:
    hands = Hands("a")
    script = ScriptedModel(
        [*alone("a"), Call("act", {"what": "x"}), *do("b"), Call("run_shell", {"command": "ls"})], "all done"
    )
    agent = handy_agent(script, hands, toolsets=[ExternalToolset([RUN_SHELL])])
    async with begun(tmp_path, hands, agent, "a") as (server, run):
        paused = await paused_at(server, hands, run, "a")
        assert hands.did == ["alone a"]
        requested = [item["tool_execution"]["tool_name"] for item in paused["requirements"]]
        assert sorted(requested) == ["act", "run_shell"]
        brought = next(tool for tool in paused["tools"] if tool["tool_name"] == "run_shell")
        done = await server.answer_with(paused, *map(yes, open_tools(paused)), {**brought, "result": "files"})
    assert done["status"] == "COMPLETED"
    assert sorted(hands.did) == ["act x", "alone a", "do b"]
    assert [text for _, text in said_by_tools(done)] == ["alone a done", "act x done", "do b done", "files"]


async def test_confirmed_calls_that_are_held_run_once_without_another_question(tmp_path: Path) -> None:
    hands = Hands("a")
    acts = [Call("act", {"what": "x"}), Call("act", {"what": "y"})]
    script = ScriptedModel([*alone("a"), *acts], "all done")
    async with driving(tmp_path, handy_agent(script, hands)) as server:
        run = await server.begin("go", agent="agent")
        await hands.gates.reached("a")
        hands.gates.open("a")
        requested = await server.settled(run)
        first, second = open_tools(requested)
        # Both confirmed, and asked to pause before anything of that could run.
        held = Gates("claim")
        enter = server.application.executor.execute

        async def execute(run_key: int, claimed: Claimed | None = None) -> bool:
            await held.pass_through("claim")
            return await enter(run_key, claimed)

        server.application.executor.execute = execute  # type: ignore[method-assign]
        response = await server.post_continue(requested, [yes(first), no(second, "not y")], background="true")
        assert response.status_code == 202
        await held.reached("claim")
        await server.pause(run)
        held.open("claim")
        paused = await server.settled(run)
        assert (paused["status"], hands.did) == ("PAUSED", ["alone a"])
        assert [tool["confirmed"] for tool in paused["tools"]] == [None, True, False]
        assert open_tools(paused) == []
        done = await server.continued(paused)
    assert (done["status"], hands.did) == ("COMPLETED", ["alone a", "act x"])
    assert said_by_tools(done)[1:] == [("act", "act x done"), ("act", "not y")]


async def test_a_held_call_is_not_taken_for_an_approved_one(tmp_path: Path) -> None:
    hands = Hands("a")
    spent: list[int] = []

    script = ScriptedModel(
        [*alone("a"), Call("spend", {"amount": 5}), Call("spend", {"amount": 50}), Call("pay", {"amount": 70})],
        "all done",
    )
    agent = handy_agent(script, hands)

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

    async with begun(tmp_path, hands, agent, "a") as (server, run):
        paused = await paused_at(server, hands, run, "a")
        assert [tool["tool_name"] for tool in open_tools(paused)] == ["pay"]
        requested = await server.confirm(paused)
        assert (requested["status"], spent) == ("PAUSED", [5, 70])
        assert [tool["tool_args"] for tool in open_tools(requested)] == [{"amount": 50}]
        done = await server.confirm(requested)
    assert (done["status"], spent) == ("COMPLETED", [5, 70, 50])


async def test_a_tool_that_wants_another_try_before_the_pause_is_told_after_it(tmp_path: Path) -> None:
    hands = Hands("a")

    script = ScriptedModel([Call("picky", {"what": "a"}), *do("b")], "all done")
    agent = handy_agent(script, hands)

    @agent.tool_plain(sequential=True, retries=3)
    async def picky(what: str) -> str:
        """Want another try."""
        await hands.alone(what)
        detail = "not like this"
        raise ModelRetry(detail)

    async with begun(tmp_path, hands, agent, "a") as (server, run):
        paused = await paused_at(server, hands, run, "a")
        done = await server.continued(paused)
    assert (done["status"], hands.did) == ("COMPLETED", ["alone a", "do b"])
    assert "not like this" in str(script.requests[-1][-1])


async def test_words_to_a_run_that_had_not_begun_are_read_after_those_it_was_made_with(tmp_path: Path) -> None:
    hands = Hands("a")
    script = ScriptedModel(do("a"), "all done", "both done")
    async with driving(tmp_path, handy_agent(script, hands), max_running=1) as server:
        await server.begin("go", agent="agent")
        await hands.gates.reached("a")
        waiting = await server.begin("one", agent="agent")
        await server.pause(waiting)
        hands.gates.open("a")
        assert (await server.settled(waiting))["status"] == "PAUSED"
        done = await server.resumed(waiting, "two")
    assert (done["status"], done["content"]) == ("COMPLETED", "both done")
    assert [part.content for part in parts_of(script.requests[-1], UserPromptPart)] == [["one", "two"]]
    assert [message["content"] for message in done["messages"]] == ["one\ntwo", "both done"]


async def test_a_run_may_be_paused_again_and_again(tmp_path: Path) -> None:
    hands = Hands("a", "b", "c")
    script = ScriptedModel(alone("a", "b"), do("c"), "all done")
    async with begun(tmp_path, hands, handy_agent(script, hands), "a") as (server, run):
        pauses = [await paused_at(server, hands, run, "a")]
        for gate in ("b", "c"):
            response = await server.post_continue(run, background="true")
            assert response.status_code == 202
            await hands.gates.reached(gate)
            pauses.append(await paused_at(server, hands, run, gate))
        done = await server.continued(run)
        events = [frame.event for frame in await server.frames(run)]
    assert (done["status"], hands.did) == ("COMPLETED", ["alone a", "alone b", "do c"])
    assert len({paused["pause_id"] for paused in pauses}) == 3
    assert events.count("RunPaused") == events.count("RunContinued") == 3
    assert events.count("ToolCallStarted") == events.count("ToolCallCompleted") == 3
