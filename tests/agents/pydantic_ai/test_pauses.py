"""Agents that pause: several times, for several calls, beside calls that need nobody, and by their tools' own will."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic_ai import Agent, DeferredToolRequests, ModelRetry, RunContext, Tool
from pydantic_ai.exceptions import ApprovalRequired, CallDeferred
from pydantic_ai.messages import ToolCallPart, ToolReturnPart
from pydantic_ai.toolsets import ExternalToolset

from tests.agents.pydantic_ai.driving import driving, names, no, open_tools, said_by_tools, yes
from tests.support.agents import RUN_SHELL, Call, ScriptedModel, parts_of


class Hands:
    """Tools that keep what they did."""

    def __init__(self) -> None:
        self.did: list[str] = []

    def free(self, n: int = 0) -> str:
        """Need nobody."""
        self.did.append(f"free {n}")
        return f"free {n} done"

    def act(self, n: int = 0) -> str:
        """Need a confirmation."""
        self.did.append(f"act {n}")
        return f"act {n} done"


def _agent(script: ScriptedModel, hands: Hands) -> Agent[None, str]:
    return Agent(script.model, name="agent", tools=[Tool(hands.free), Tool(hands.act, requires_approval=True)])


async def test_one_run_pauses_as_often_as_its_model_wants(tmp_path: Path) -> None:
    hands = Hands()
    script = ScriptedModel(*([Call("act", {"n": n})] for n in range(4)), "all done")
    async with driving(tmp_path, _agent(script, hands)) as server:
        run = await server.run()
        pauses = {run["pause_id"]}
        for n in range(4):
            assert hands.did == [f"act {i}" for i in range(n)]
            assert [tool["tool_args"] for tool in open_tools(run)] == [{"n": n}]
            run = await server.confirm(run)
            pauses.add(run.get("pause_id"))
    assert (run["status"], run["content"]) == ("COMPLETED", "all done")
    assert pauses >= {None}
    assert len(pauses) == 5
    assert len(script.requests) == 5


async def test_a_run_goes_on_after_a_restart_at_each_pause(tmp_path: Path) -> None:
    hands = Hands()
    script = ScriptedModel([Call("act", {"n": 1})], [Call("act", {"n": 2})], "done")
    async with driving(tmp_path, _agent(script, hands)) as server:
        run = await server.run()
    async with driving(tmp_path, _agent(script, hands)) as server:
        run = await server.confirm(run)
    async with driving(tmp_path, _agent(script, hands)) as server:
        run = await server.confirm(run)
    assert (run["status"], run["content"], hands.did) == ("COMPLETED", "done", ["act 1", "act 2"])


async def test_of_several_calls_in_a_pause_only_the_confirmed_ones_run(tmp_path: Path) -> None:
    hands = Hands()
    script = ScriptedModel([Call("act", {"n": n}) for n in range(4)], "done")
    async with driving(tmp_path, _agent(script, hands)) as server:
        run = await server.run()
        tools = run["tools"]
        done = await server.answer_with(run, yes(tools[0]), no(tools[1], "not this"), no(tools[2]), yes(tools[3]))
    assert sorted(hands.did) == ["act 0", "act 3"]
    assert said_by_tools(done) == [("act", "act 0 done"), ("act", "not this"), ("act", "no"), ("act", "act 3 done")]
    outcomes = [part.outcome for part in parts_of(script.requests[-1], ToolReturnPart)]
    assert outcomes == ["success", "denied", "denied", "success"]


async def test_a_free_call_beside_a_paused_one_runs_once(tmp_path: Path) -> None:
    hands = Hands()
    script = ScriptedModel([Call("free", {"n": 1}), Call("act", {"n": 2}), Call("free", {"n": 3})], "done")
    async with driving(tmp_path, _agent(script, hands)) as server:
        events = await server.events()
        assert names(events)[-2:] == ["RunContentCompleted", "RunPaused"]
        run = events[-1]
        assert sorted(hands.did) == ["free 1", "free 3"]
        assert [tool["result"] for tool in run["tools"]] == ["free 1 done", None, "free 3 done"]
        events = await server.events(run, *map(yes, open_tools(run)))
        started = [event["tool"]["tool_name"] for event in events if event["event"] == "ToolCallStarted"]
        assert started == ["act"]
    assert sorted(hands.did) == ["act 2", "free 1", "free 3"]
    results = [(part.tool_name, part.content) for part in parts_of(script.requests[-1], ToolReturnPart)]
    assert results == [("free", "free 1 done"), ("act", "act 2 done"), ("free", "free 3 done")]


async def test_a_free_call_beside_an_external_one_runs_once(tmp_path: Path) -> None:
    hands = Hands()
    script = ScriptedModel([Call("free", {"n": 1}), Call("run_shell", {"command": "ls"})], "done")
    agent = Agent(script.model, name="agent", tools=[Tool(hands.free)], toolsets=[ExternalToolset([RUN_SHELL])])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        assert run["tools"][1]["external_execution_required"] is True
        done = await server.answer_with(run, {**run["tools"][1], "result": "a file"})
    assert (done["status"], hands.did) == ("COMPLETED", ["free 1"])
    assert said_by_tools(done) == [("free", "free 1 done"), ("run_shell", "a file")]


async def test_words_before_a_call_are_the_content_of_the_pause(tmp_path: Path) -> None:
    script = ScriptedModel(["Let me ", "do that.", Call("act")], ["Did ", "it."])
    async with driving(tmp_path, _agent(script, Hands())) as server:
        run = await server.run()
        assert (run["status"], run["content"]) == ("PAUSED", "Let me do that.")
        assert (await server.confirm(run))["content"] == "Did it."


async def test_ids_that_a_model_repeats_in_every_answer_stay_distinct(tmp_path: Path) -> None:
    hands = Hands()
    turns = [
        [Call("act", {"n": 2 * n}, "call_0"), Call("act", {"n": 2 * n + 1}, "call_1" if n else "call_0")]
        for n in range(3)
    ]
    script = ScriptedModel(*turns, "done")
    async with driving(tmp_path, _agent(script, hands)) as server:
        run = await server.run()
        for n in range(3):
            assert [tool["tool_args"]["n"] for tool in open_tools(run)] == [2 * n, 2 * n + 1]
            first, second = open_tools(run)
            run = await server.answer_with(run, yes(first), no(second))
    assert (run["status"], hands.did) == ("COMPLETED", ["act 0", "act 2", "act 4"])
    shown = [tool["tool_call_id"] for tool in run["tools"]]
    assert len(set(shown)) == 6
    assert shown[0] == "call_0"
    calls = [part.tool_call_id for part in parts_of(script.requests[-1], ToolCallPart)]
    results = [part.tool_call_id for part in parts_of(script.requests[-1], ToolReturnPart)]
    assert calls == results == shown


async def test_a_tool_that_asks_for_approval_itself_runs_once_approved(tmp_path: Path) -> None:
    did: list[object] = []

    def spend(ctx: RunContext[None], amount: int) -> str:
        """Spend money."""
        if amount > 10 and not ctx.tool_call_approved:
            raise ApprovalRequired(metadata={"why": "much"})
        did.append(amount)
        return f"spent {amount}"

    script = ScriptedModel([Call("spend", {"amount": 5}), Call("spend", {"amount": 50})], "done")
    async with driving(tmp_path, Agent(script.model, name="agent", tools=[spend])) as server:
        run = await server.run()
        assert (run["status"], did) == ("PAUSED", [5])
        assert [tool["tool_args"] for tool in open_tools(run)] == [{"amount": 50}]
        done = await server.confirm(run)
    assert (done["status"], did) == ("COMPLETED", [5, 50])
    assert said_by_tools(done) == [("spend", "spent 5"), ("spend", "spent 50")]


async def test_a_tool_that_defers_itself_takes_the_result_that_is_brought(tmp_path: Path) -> None:
    def order(item: str) -> str:
        """Order something."""
        raise CallDeferred(metadata={"item": item})

    script = ScriptedModel([Call("order", {"item": "tea"})], "done")
    async with driving(tmp_path, Agent(script.model, name="agent", tools=[order])) as server:
        run = await server.run()
        (tool,) = run["tools"]
        assert (tool["external_execution_required"], tool["requires_confirmation"]) == (True, None)
        done = await server.answer_with(run, {**tool, "result": "on its way"})
    assert said_by_tools(done) == [("order", "on its way")]


async def test_a_question_of_a_tool_takes_the_words_of_a_resume(tmp_path: Path) -> None:
    def ask(question: str) -> str:
        """Ask."""
        del question
        raise CallDeferred(kind="question")

    script = ScriptedModel([Call("ask", {"question": "how many?"})], "done")
    async with driving(tmp_path, Agent(script.model, name="agent", tools=[ask])) as server:
        await server.run()
        await server.resume(1, "seven")
    results = parts_of(script.requests[-1], ToolReturnPart)
    assert [(part.content, part.outcome) for part in results] == [("seven", "success")]


async def test_an_agent_that_lists_deferred_requests_itself_pauses_all_the_same(tmp_path: Path) -> None:
    hands = Hands()
    script = ScriptedModel([Call("act", {"n": 1})], "done")
    agent: Agent[None, str | DeferredToolRequests] = Agent(
        script.model,
        name="agent",
        output_type=[str, DeferredToolRequests],
        tools=[Tool(hands.act, requires_approval=True)],
    )
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        assert (run["status"], hands.did) == ("PAUSED", [])
        done = await server.confirm(run)
    assert (done["status"], done["content"], hands.did) == ("COMPLETED", "done", ["act 1"])


async def test_two_agents_of_one_server_do_not_mix(tmp_path: Path) -> None:
    one, two = ScriptedModel([Call("act", {"n": 1})], "one"), ScriptedModel([Call("act", {"n": 2})], "two")
    first, second = Hands(), Hands()
    agents = (
        Agent(one.model, name="first", tools=[Tool(first.act, requires_approval=True)]),
        Agent(two.model, name="second", tools=[Tool(second.act, requires_approval=True)]),
    )
    async with driving(tmp_path, *agents) as server:
        runs = [await server.run(agent="first"), await server.run(agent="second")]
        done = [await server.confirm(run) for run in reversed(runs)]
    assert [(run["agent_id"], run["content"]) for run in done] == [("second", "two"), ("first", "one")]
    assert (first.did, second.did) == (["act 1"], ["act 2"])


async def test_a_call_that_was_approved_may_then_be_deferred(tmp_path: Path) -> None:
    def order() -> str:
        """Order something, elsewhere."""
        raise CallDeferred

    script = ScriptedModel([Call("order")], "done")
    agent = Agent(script.model, name="agent", tools=[Tool(order, requires_approval=True)])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        deferred = await server.confirm(run)
        (tool,) = deferred["tools"]
        assert (deferred["status"], tool["external_execution_required"]) == ("PAUSED", True)
        done = await server.answer_with(deferred, {**tool, "result": "ordered"})
    assert (done["status"], said_by_tools(done)) == ("COMPLETED", [("order", "ordered")])


async def test_the_answer_to_a_tools_first_question_is_no_answer_to_its_second(tmp_path: Path) -> None:
    tries: list[int] = []

    def insist() -> str:
        """Ask twice."""
        tries.append(1)
        if len(tries) < 3:
            raise ApprovalRequired
        return "at last"

    script = ScriptedModel([Call("insist")], "done")
    async with driving(tmp_path, Agent(script.model, name="agent", tools=[insist])) as server:
        run = await server.run()
        again = await server.confirm(run)
        assert (again["status"], len(tries)) == ("PAUSED", 2)
        assert open_tools(again)[0]["tool_call_id"] != open_tools(run)[0]["tool_call_id"]
        path = f"/agents/agent/runs/{run['run_id']}/continue"
        late = await server.client.post(path, data={"tools": json.dumps([yes(open_tools(run)[0])])})
        assert (late.status_code, len(tries)) == (409, 2)
        done = await server.confirm(again)
    assert (done["status"], said_by_tools(done)) == ("COMPLETED", [("insist", "at last")])


async def test_a_confirmed_tool_that_wants_another_try_is_asked_about_again(tmp_path: Path) -> None:
    did: list[int] = []

    def climb(height: int) -> str:
        """Climb."""
        did.append(height)
        if height < 2:
            detail = "higher"
            raise ModelRetry(detail)
        return "there"

    script = ScriptedModel([Call("climb", {"height": 1})], [Call("climb", {"height": 2})], "done")
    agent = Agent(script.model, name="agent", tools=[Tool(climb, requires_approval=True)])
    async with driving(tmp_path, agent) as server:
        again = await server.confirm(await server.run())
        assert (again["status"], did) == ("PAUSED", [1])
        done = await server.confirm(again)
    assert (done["status"], did) == ("COMPLETED", [1, 2])


async def test_all_that_a_run_ever_waited_for_may_be_sent_back_at_each_pause(tmp_path: Path) -> None:
    stages: list[str] = []

    def publish() -> str:
        """Be asked about twice."""
        stages.append("publish")
        if len(stages) == 1:
            raise ApprovalRequired
        return "published"

    def act() -> str:
        """Be asked about once."""
        return "acted"

    script = ScriptedModel([Call("publish", {}, "p")], [Call("act", {}, "a")], "done")
    tools = [Tool(publish, requires_approval=True), Tool(act, requires_approval=True)]
    async with driving(tmp_path, Agent(script.model, name="agent", tools=tools)) as server:
        run = await server.run()
        for _ in range(3):
            shown = [requirement["tool_execution"] for requirement in run["requirements"]]
            run = await server.answer_with(run, *(yes(tool) if tool["confirmed"] is None else tool for tool in shown))
    assert (run["status"], run["content"], len(run["requirements"])) == ("COMPLETED", "done", 3)
    assert [item["tool_execution"]["tool_call_id"] for item in run["requirements"]] == ["p", "p", "a"]
