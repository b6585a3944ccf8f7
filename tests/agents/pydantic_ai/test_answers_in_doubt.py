"""A server stops while an answer is processed: what had started goes to a human, what had ended is not run again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, RunContext, TextOutput, Tool, ToolOutput
from pydantic_ai.capabilities import Hooks
from pydantic_ai.messages import ToolReturnPart
from pydantic_ai.output import Choice, Choices, OutputContext

from tests.agents.pydantic_ai.driving import driving, no, open_tools, yes
from tests.support.agents import Call, ScriptedModel, parts_of
from tests.support.gates import Gates
from tests.support.pairing import unpaired
from tests.support.toolbox import JsonObject


class Report(BaseModel):
    """What the agent found."""

    title: str


class Office:
    """Sends reports, and can be stopped in the middle of that."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.gates = Gates("send", "think")

    async def send(self, to: str) -> str:
        """Send the report."""
        self.sent.append(to)
        if to == "nobody":
            detail = "no such person"
            raise ModelRetry(detail)
        await self.gates.pass_through("send")
        return f"sent to {to}"

    async def check(self, output: Any) -> Any:  # noqa: ANN401 - any answer
        await self.send(str(output))
        return output

    async def see(self, ctx: RunContext[Any], *, output_context: OutputContext, output: Any) -> Any:  # noqa: ANN401
        """Look on as a hook of the author's."""
        del ctx, output_context
        return await self.check(output)

    async def send_to_ann(self) -> str:
        return await self.send("ann")

    def agent(self, kind: str) -> tuple[ScriptedModel, Agent[None, Any]]:
        """Return a model and an agent whose answer ``ann`` is processed in this way."""
        final = Call("final_result", {"to": "ann"}, "o1")
        match kind:
            case "function":
                script = ScriptedModel([final])
                return script, Agent(script.model, name="agent", output_type=self.send)
            case "text":
                script = ScriptedModel("ann")
                output = TextOutput(self.send)
                return script, Agent(script.model, name="agent", output_type=output, instructions="Be brief.")
            case "validator":
                script = ScriptedModel("ann")
                agent = Agent(script.model, name="agent", instructions="Be brief.")
                agent.output_validator(self.check)
                return script, agent
            case "hook":
                script = ScriptedModel("ann")
                return script, Agent(script.model, name="agent", capabilities=[Hooks(after_output_process=self.see)])
            case _:
                script = ScriptedModel([Call("final_result", {"response": "mail"}, "o1")])
                choices = Choices({"mail": Choice("Mail it.", value=self.send_to_ann)})
                return script, Agent(script.model, name="agent", output_type=choices)


async def interrupted(folder: Path, agent: Agent[None, Any], office: Office, gate: str = "send") -> JsonObject:
    """Stop a server that waits for nobody while its run stands at the gate."""
    async with driving(folder, agent, shutdown_grace_seconds=0) as server:
        run = await server.begin("go", agent="agent")
        await office.gates.reached(gate)
    office.gates.open(gate)
    return run


@pytest.mark.parametrize("kind", ["function", "text", "validator", "choice", "hook"])
async def test_processing_that_was_cut_off_is_asked_about_and_confirmed_once(tmp_path: Path, kind: str) -> None:
    office = Office()
    script, agent = office.agent(kind)
    run = await interrupted(tmp_path, agent, office)
    async with driving(tmp_path, agent) as server:
        paused = await server.settled(run)
        assert (paused["status"], office.sent, len(paused["tools"])) == ("PAUSED", ["ann"], 1)
        assert "it may already have run" in paused["content"]
        done = await server.confirm(paused)
    assert (done["status"], office.sent, len(script.requests)) == ("COMPLETED", ["ann", "ann"], 1)
    assert done["content"] == ("ann" if kind in {"validator", "hook"} else "sent to ann")


@pytest.mark.parametrize("kind", ["function", "text"])
async def test_processing_that_a_human_would_not_have_again_ends_the_run_with_the_note(
    tmp_path: Path, kind: str
) -> None:
    office = Office()
    script, agent = office.agent(kind)
    run = await interrupted(tmp_path, agent, office)
    async with driving(tmp_path, agent) as server:
        paused = await server.settled(run)
        done = await server.answer_with(paused, *(no(tool, "it went out at ten") for tool in open_tools(paused)))
        assert (done["status"], done["content"], done["content_type"]) == ("COMPLETED", "it went out at ten", "str")
        assert (office.sent, len(script.requests)) == (["ann"], 1)
        # The model reads of it in the session's next run.
        script.add([Call("final_result", {"to": "bob"}, "o2")] if kind == "function" else "bob")
        await server.run("again", session_id=paused["session_id"])
    assert unpaired(script.requests[-1]) == []
    returns = [(part.content, part.outcome) for part in parts_of(script.requests[-1], ToolReturnPart)]
    assert returns == ([("it went out at ten", "denied")] if kind == "function" else [])


@pytest.mark.parametrize("kind", ["function", "text"])
async def test_the_users_words_decline_what_is_in_doubt_and_the_model_goes_on(tmp_path: Path, kind: str) -> None:
    office = Office()
    script, agent = office.agent(kind)
    run = await interrupted(tmp_path, agent, office)
    script.add([Call("final_result", {"to": "bob"}, "o2")] if kind == "function" else "bob")
    async with driving(tmp_path, agent) as server:
        await server.settled(run)
        done = await server.resumed(run, "send it to bob")
    assert (done["status"], done["content"], office.sent) == ("COMPLETED", "sent to bob", ["ann", "bob"])
    assert "send it to bob" in str(script.requests[-1][-1])
    assert unpaired(script.requests[-1]) == []


@pytest.mark.parametrize("kind", ["function", "text"])
async def test_what_is_confirmed_runs_before_the_users_words_are_read(tmp_path: Path, kind: str) -> None:
    office = Office()
    script, agent = office.agent(kind)
    run = await interrupted(tmp_path, agent, office)
    script.add([Call("final_result", {"to": "bob"}, "o2")] if kind == "function" else "bob")
    async with driving(tmp_path, agent) as server:
        paused = await server.settled(run)
        tools = [yes(tool) for tool in open_tools(paused)]
        done = await server.resumed(run, "then to bob", tools=tools)
    assert (done["status"], done["content"], office.sent) == ("COMPLETED", "sent to bob", ["ann", "ann", "bob"])
    reported = str(script.requests[-1][-1])
    assert reported.index("Its result: sent to ann") < reported.index("then to bob")
    assert unpaired(script.requests[-1]) == []


async def test_an_answer_that_was_sent_back_stays_so_after_a_restart(tmp_path: Path) -> None:
    office = Office()
    turn = [Call("final_result", {"to": "nobody"}, "o1")]
    script = ScriptedModel(turn, [Call("final_result", {"to": "bob"}, "o2")])
    agent = Agent(script.model, name="agent", output_type=office.send)

    @agent.instructions
    async def think() -> str:
        if office.sent:
            await office.gates.pass_through("think")
        return ""

    office.gates.open("send")
    run = await interrupted(tmp_path, agent, office, "think")
    async with driving(tmp_path, agent) as server:
        done = await server.settled(run)
    assert (done["status"], done["content"], office.sent) == ("COMPLETED", "sent to bob", ["nobody", "bob"])
    assert [part.content for part in parts_of(script.requests[-1], ToolReturnPart)] == ["no such person"]


async def test_an_answer_that_was_taken_ends_the_run_after_a_restart_as_it_was(tmp_path: Path) -> None:
    office = Office()
    taken: list[str] = []

    def report(title: str) -> Report:
        """Make the report."""
        taken.append(title)
        return Report(title=title.upper())

    async def slow() -> str:
        """Take long."""
        await office.gates.pass_through("think")
        return "done"

    script = ScriptedModel([Call("final_result", {"title": "units"}, "o1"), Call("slow", {}, "s")])
    output = ToolOutput(report, name="final_result", sequential=True)
    agent = Agent(script.model, name="agent", output_type=output, tools=[Tool(slow)], end_strategy="exhaustive")
    run = await interrupted(tmp_path, agent, office, "think")
    async with driving(tmp_path, agent) as server:
        paused = await server.settled(run)
        assert [tool["tool_name"] for tool in paused["tools"]] == ["slow"]
        done = await server.confirm(paused)
    assert (done["status"], done["content_type"], taken) == ("COMPLETED", "Report", ["units"])
    assert done["content"] == {"title": "UNITS"}
    assert [tool["tool_name"] for tool in done["tools"]] == ["slow"]
