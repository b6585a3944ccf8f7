"""A verdict on an answer is given once: it stands while the run waits for a human, and after a restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, NativeOutput, Tool
from pydantic_ai.exceptions import ApprovalRequired
from pydantic_ai.messages import ToolReturnPart
from pydantic_ai.tools import RunContext, ToolDefinition
from pydantic_ai.toolsets import ExternalToolset

from tests.agents.pydantic_ai.driving import DrivenServer, driving, no, open_tools, yes
from tests.support.agents import Call, ScriptedModel, parts_of
from tests.support.databases import Place, sqlite_url
from tests.support.pairing import unpaired
from tests.support.toolbox import JsonObject

Strategy = Literal["early", "graceful", "exhaustive"]


class Report(BaseModel):
    """What the agent found."""

    n: int


class Judge:
    """Refuses every answer until it is ``ready``, and keeps whom it judged and what was done."""

    def __init__(self) -> None:
        self.ready = False
        self.judged: list[int] = []
        self.did: list[str] = []

    def check(self, output: Report) -> Report:
        self.judged.append(output.n)
        if not self.ready:
            detail = "not yet: ask again"
            raise ModelRetry(detail)
        return output

    def act(self) -> str:
        """Need a confirmation."""
        self.did.append("act")
        return "acted"

    def agent(self, script: ScriptedModel, **more: Any) -> Agent[None, Any]:  # noqa: ANN401 - any argument
        tools = [Tool(self.act, requires_approval=True)]
        agent = Agent(script.model, name="agent", output_type=Report, tools=tools, **more)
        agent.output_validator(self.check)
        return agent


def _final(n: int) -> Call:
    return Call("final_result", {"n": n}, f"f{n}")


def reported(script: ScriptedModel) -> dict[str, str]:
    """Return what the model was told last of each call."""
    assert unpaired(script.requests[-1]) == []
    return {part.tool_call_id: str(part.content) for part in parts_of(script.requests[-1], ToolReturnPart)}


def calls_kept(folder: Path) -> list[tuple[str, str, str]]:
    """Return kind, status and outcome of each call in the journal."""
    rows = Place(sqlite_url(folder / "unpause.db")).dump()["tool_calls"]
    return sorted((str(row["kind"]), str(row["status"]), str(row["outcome"])) for row in rows)


async def _confirm(server: DrivenServer, run: JsonObject) -> JsonObject:
    return await server.confirm(run)


async def _reject(server: DrivenServer, run: JsonObject) -> JsonObject:
    return await server.answer_with(run, *(no(tool, "leave it") for tool in open_tools(run)))


@pytest.mark.parametrize(
    ("strategy", "answer", "did"),
    [
        ("early", _confirm, ["act"]),
        ("graceful", _confirm, ["act"]),
        ("exhaustive", _confirm, ["act"]),
        ("early", _reject, []),
        ("exhaustive", _reject, []),
    ],
)
async def test_an_answer_refused_beside_an_approval_stays_refused_after_it(
    tmp_path: Path, strategy: Strategy, answer: Callable[[DrivenServer, JsonObject], Any], did: list[str]
) -> None:
    judge = Judge()
    script = ScriptedModel([_final(1), Call("act", {}, "a")], [_final(20)])
    agent = judge.agent(script, end_strategy=strategy)
    async with driving(tmp_path, agent) as server:
        run = await server.run()
    judge.ready = True
    async with driving(tmp_path, agent) as server:
        done = await answer(server, run)
    assert (done["status"], done["content"]) == ("COMPLETED", {"n": 20})
    assert (judge.did, judge.judged) == (did, [1, 20])
    assert reported(script) == {"f1": "not yet: ask again", "a": "acted" if did else "leave it"}
    assert [tool["tool_name"] for tool in done["tools"]] == ["act"]


async def test_an_answer_refused_beside_several_waits_is_judged_once(tmp_path: Path) -> None:
    judge = Judge()

    def stage(ctx: RunContext[Any]) -> str:
        """Wait for a confirmation that it asks for itself."""
        if not ctx.tool_call_approved:
            raise ApprovalRequired
        judge.did.append("stage")
        return "staged"

    turn = [_final(1), Call("act", {}, "a"), Call("stage", {}, "s"), Call("shell", {}, "x")]
    script = ScriptedModel(turn, [_final(20)])
    shell = ExternalToolset([ToolDefinition(name="shell")], id="shell")
    agent = judge.agent(script, end_strategy="early", toolsets=[shell])
    agent.tool(stage)
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        judge.ready = True
        # One of three is answered: the run stays paused. Then the rest, as events of a stream.
        tools = {tool["tool_name"]: tool for tool in run["tools"]}
        run = await server.answer_with(run, yes(tools["act"]))
        assert (run["status"], judge.did) == ("PAUSED", [])
    async with driving(tmp_path, agent) as server:
        events = await server.events(run, yes(tools["stage"]), {**tools["shell"], "result": "listed"})
    assert (events[-1]["event"], events[-1]["content"]) == ("RunCompleted", {"n": 20})
    assert (sorted(judge.did), judge.judged) == (["act", "stage"], [1, 20])
    assert reported(script) == {"f1": "not yet: ask again", "a": "acted", "s": "staged", "x": "listed"}


async def test_an_answer_that_was_taken_is_not_processed_again_after_the_wait(tmp_path: Path) -> None:
    sent: list[str] = []

    def send(to: str) -> str:
        """Send the report."""
        sent.append(to)
        return f"sent to {to}"

    def look() -> str:
        """Have the model try again, which comes before any answer."""
        detail = "look elsewhere"
        raise ModelRetry(detail)

    def act() -> str:
        """Need a confirmation."""
        return "acted"

    turn = [Call("look", {}, "l"), Call("final_result", {"to": "ann"}, "f1"), Call("act", {}, "a")]
    script = ScriptedModel(turn, [Call("final_result", {"to": "bob"}, "f2")])
    tools = [Tool(look), Tool(act, requires_approval=True)]
    agent = Agent(script.model, name="agent", output_type=send, tools=tools, end_strategy="graceful")
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        assert (run["status"], sent) == ("PAUSED", ["ann"])
    async with driving(tmp_path, agent) as server:
        done = await server.confirm(run)
    assert (done["status"], done["content"], sent) == ("COMPLETED", "sent to bob", ["ann", "bob"])
    answers = reported(script)
    assert (answers["l"], answers["a"]) == ("look elsewhere", "acted")
    assert answers["f1"].startswith("Output not used as the final result")


async def test_an_answer_in_text_that_was_refused_beside_a_call_does_not_win_after_the_wait(tmp_path: Path) -> None:
    judge = Judge()

    def stage(ctx: RunContext[Any]) -> str:
        """Wait for a confirmation that it asks for itself."""
        if not ctx.tool_call_approved:
            raise ApprovalRequired
        judge.did.append("stage")
        return "staged"

    script = ScriptedModel(['{"n": 1}', Call("stage", {}, "s")], '{"n": 20}')
    agent = Agent(script.model, name="agent", output_type=NativeOutput(Report), end_strategy="early")
    agent.output_validator(judge.check)
    agent.tool(stage)
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        judge.ready = True
        done = await server.confirm(run)
    assert (done["status"], done["content"]) == ("COMPLETED", {"n": 20})
    assert (judge.did, judge.judged) == (["stage"], [1, 20])


async def test_an_answer_of_the_wrong_shape_is_refused_beside_an_approval_with_the_same_words(tmp_path: Path) -> None:
    judge = Judge()
    judge.ready = True
    alone, beside = Call("final_result", {"n": "many"}, "w1"), Call("final_result", {"n": "many"}, "w2")
    script = ScriptedModel([alone], [beside, Call("act", {}, "a")], [_final(20)])
    agent = judge.agent(script, end_strategy="early", retries={"output": 3})
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        done = await server.confirm(run)
    assert (done["status"], judge.did) == ("COMPLETED", ["act"])
    answers = reported(script)
    assert answers["w1"] == answers["w2"]


async def test_a_structured_answer_that_nothing_processes_costs_no_row(tmp_path: Path) -> None:
    script = ScriptedModel([Call("final_result", {"n": "many"})], [_final(3)])
    async with driving(tmp_path, Agent(script.model, name="agent", output_type=Report)) as server:
        done = await server.run()
    assert (done["status"], calls_kept(tmp_path)) == ("COMPLETED", [])
