"""The fixture `unpause`: runs pause, are decided and go on as on a server."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, RunContext

from tests.testing.ops import RESTART, Machine, look, ops
from unpause import agent_deps
from unpause.testing import (
    AlreadyDecided,
    Denied,
    NotADecider,
    Unpause,
    WrongUse,
    script,
)


async def test_a_call_waits_runs_once_approved_and_the_model_ends(unpause: Unpause) -> None:
    machine = Machine()
    async with unpause.serve(ops, model=RESTART.says("All good."), deps=machine) as server:
        run = await server.run("restart nginx", user="dev-1")
        call = run.assert_waits_for("restart", service="nginx")
        assert (call.kind, call.editable, machine.done, run.status) == ("approval", ("service",), [], "PAUSED")
        assert (await run.approve(by="ops-lead", note="go on")).output == "All good."
        assert machine.done == ["restart nginx"]
        assert run.waiting == ()


async def test_a_rejection_is_what_the_model_reads(unpause: Unpause) -> None:
    async with unpause.serve(ops, model=RESTART, deps=Machine()) as server:
        run = await server.run()
        assert (await run.reject("not today", by="ops-lead")).output == "done"
        assert "ops-lead   rejected restart(service='nginx'): not today" in run.transcript
        assert "not today" in run.transcript.split("rejected")[-1]


async def test_arguments_are_edited_forms_filled_in_results_given_and_questions_answered(unpause: Unpause) -> None:
    machine = Machine()
    steps = RESTART.then("send", subject="hi").then("shell", command="ls").then("ask", question="sure?")
    async with unpause.serve(ops, model=steps, deps=machine) as server:
        run = await server.run()
        await run.edit(service="apache")
        assert machine.done == ["restart apache"]
        assert run.assert_waits_for("send").fields == ("to", "copies")
        await run.fill({"copies": 2}, to="olga")
        assert run.assert_waits_for("shell", command="ls").kind == "result"
        await run.result({"files": 3})
        assert run.assert_waits_for("ask").kind == "question"
        assert (await run.answer("quite sure")).output == "done"
    for words in ("sent hi to olga 2 times", '{"files": 3}', "quite sure"):
        assert words in run.transcript


async def test_several_calls_wait_together_and_are_decided_one_by_one(unpause: Unpause) -> None:
    both = RESTART.beside("restart", service="apache").beside("pay", amount=5)
    async with unpause.serve(ops, model=both, deps=Machine()) as server:
        run = await server.run()
        with pytest.raises(WrongUse, match=r"waits for 3 calls, so say call=…, one of: restart.service='nginx'"):
            await run.approve()
        with pytest.raises(WrongUse, match="waits for 2 calls"):
            await run.approve(call="restart")
        await run.approve(call="pay", by="boss")
        assert [str(call) for call in run.waiting] == [
            "restart(service='nginx') for approval",
            "restart(service='apache') for approval",
        ]
        second = run.waiting[1]
        await run.reject(call=second)
        with pytest.raises(WrongUse, match=r"does not wait for restart.service='apache'. for approval any more"):
            await run.approve(call=second)
        assert (await run.approve()).output == "done"


async def test_policies_say_who_decides(unpause: Unpause) -> None:
    users = {"boss": ["agent_os:admin"], "carol": ["agents:run", "finance:approve"]}
    twice = script("pay", amount=5).then("lend", amount=7)
    async with unpause.serve(ops, model=twice, deps=Machine(), users=users) as server:
        run = await server.run(user="boss")
        with pytest.raises(NotADecider, match="by the user who started the run") as refused:
            await run.approve(by="boss")
        assert "Transcript of run" in refused.value.__notes__[0]
        with pytest.raises(Denied, match="approvals:write"):
            await run.approve(by="carol")
        await run.cancel()
        run = await server.run(user="bob")
        await run.approve(by="boss")
        with pytest.raises(NotADecider, match="only be decided by its approvers"):
            await run.approve(by="bob")
        await run.approve(by="olga")
        assert run.assert_waits_for("lend").votes == ("olga",)
        assert (await run.approve(by="carol")).output == "done"


async def test_of_two_decisions_at_once_one_comes_too_late(unpause: Unpause) -> None:
    async with unpause.serve(ops, model=RESTART, deps=Machine()) as server:
        run = await server.run()
        both = await asyncio.gather(run.approve(by="a"), run.reject(by="b"), return_exceptions=True)
        assert [type(each) for each in both].count(AlreadyDecided) == 1
        run.assert_completed()


async def test_time_passes_with_reminders_and_expiry_on_the_way(unpause: Unpause) -> None:
    settings = {"reminder_seconds": 600}
    async with unpause.serve(ops, model=script("soon", text="x"), deps=Machine(), settings=settings) as server:
        run = await server.run()
        await server.clock.advance(minutes=40)
        assert (run.status, run.reminders) == ("PAUSED", 0)
        await server.clock.advance(minutes=10)
        assert (run.status, run.reminders) == ("PAUSED", 1)
        other = await server.run()
        before = server.clock.now()
        await server.clock.advance(days=2)
        assert (run.status, other.status, other.reminders) == ("CANCELLED", "CANCELLED", 1)
        assert (server.clock.now() - before).days == 2
        with pytest.raises(ValueError, match="only advances"):
            await server.clock.advance(days=-1)


@pytest.mark.parametrize("after", [False, True])
async def test_a_crash_while_a_tool_runs_leaves_it_in_doubt(unpause: Unpause, *, after: bool) -> None:
    machine = Machine()
    async with unpause.serve(ops, model=RESTART, deps=machine) as server:
        run, other = await server.run(user="dev-1"), await server.run()
        async with server.crash_during("restart", after=after):
            await run.approve(by="ops-lead")
        assert machine.done == ["restart nginx"] * after
        assert run.assert_in_doubt("restart").arguments == {"service": "nginx"}
        other.assert_waits_for("restart")
        assert "in doubt" in run.transcript
        assert (await run.approve(by="ops-lead")).output == "done"
        assert len(machine.done) == 1 + after


async def test_an_idempotent_tool_runs_again_after_a_crash_and_nobody_is_asked(unpause: Unpause) -> None:
    machine = Machine()
    async with unpause.serve(ops, model=script("look"), deps=machine) as server:
        async with server.crash_during("look", after=True):
            run = await server.run()
        assert (run.output, machine.done) == ("done", ["look here", "look here"])


async def test_after_a_crash_the_server_runs_also_where_the_block_raises(unpause: Unpause) -> None:
    async with unpause.serve(ops, model=RESTART, deps=Machine()) as server:
        run = await server.run()

        async def crash() -> None:
            async with server.crash_during("restart"):
                await run.approve()
                raise LookupError

        with pytest.raises(LookupError):
            await crash()
        run.assert_in_doubt("restart")
        assert (await run.approve()).output == "done"
    for late in (server.run(), server.restart(), server.clock.advance(days=1)):
        with pytest.raises(WrongUse, match="the server is not running"):
            await late


async def test_what_waits_is_there_after_a_restart_and_the_script_goes_on(unpause: Unpause) -> None:
    async with unpause.serve(ops, model=RESTART.then("look").says("bye"), deps=Machine()) as server:
        run = await server.run()
        await server.restart()
        run.assert_waits_for("restart")
        assert (await run.approve()).output == "bye"
        again = await server.run(session=run.session_id)
        again.assert_waits_for("restart")


class Report(BaseModel):
    """A structured output."""

    level: int


async def test_structured_outputs_are_json(unpause: Unpause) -> None:
    numbers = Agent(name="numbers", output_type=int)
    report = Agent(name="report", output_type=[Machine, Report])
    text = Agent(name="text")
    async with unpause.serve(numbers, model=script().returns(7)) as server:
        assert (await server.run()).output == 7
    async with unpause.serve(report, model=script().returns(Report(level=3))) as server:
        assert (await server.run()).output == {"level": 3}
    async with unpause.serve(report, model=script().returns(done=["x"])) as server:
        assert (await server.run()).output == {"done": ["x"]}
    async with unpause.serve(text, model=script().returns("plain")) as server:
        assert (await server.run()).output == "plain"
    async with unpause.serve(numbers, model=script().says("seven")) as server:
        with pytest.raises(WrongUse, match=r"output is no text \(final_result\): end the script with .returns"):
            await server.run()


async def test_deps_come_from_the_agents_factory_unless_the_test_gives_others(unpause: Unpause) -> None:
    made = Machine()
    agent: Agent[Machine, str] = Agent(name="ops", deps_type=Machine)
    agent.tool(look)
    agent_deps(agent, lambda _: made)
    async with unpause.serve(agent, model=script("look")) as server:
        assert (await server.run()).output == "done"
    given = Machine()
    async with unpause.serve(agent, model=script("look"), deps=given) as server:
        assert (await server.run()).output == "done"
    assert (made.done, given.done) == (["look here"], ["look here"])


async def test_a_crash_after_a_tool_that_ran_beside_a_call_that_waits_leaves_it_in_doubt(unpause: Unpause) -> None:
    machine = Machine()
    agent = Agent(name="agent", deps_type=Machine)
    agent.tool_plain(requires_approval=True)(ask_first)
    agent.tool(note)
    async with unpause.serve(agent, model=script("note").beside("ask_first"), deps=machine) as server:
        async with server.crash_during("note", after=True):
            run = await server.run()
        assert run.assert_in_doubt("note").arguments == {}
        assert machine.done == ["noted"]


def ask_first() -> str:
    return "did it"


def note(ctx: RunContext[Machine]) -> str:
    ctx.deps.done.append("noted")
    return "noted"
