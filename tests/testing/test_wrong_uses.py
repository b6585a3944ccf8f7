"""The fixture `unpause`: a wrong use says what is right, and failures show the whole of a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.function import FunctionModel

from tests.testing.ops import RESTART, Machine, ops
from unpause.testing import RequirementMismatch, Unpause, WrongUse, check, script


async def test_an_answer_to_a_run_that_waits_for_nothing_is_a_wrong_use(unpause: Unpause) -> None:
    async with unpause.serve(ops, model=script("look"), deps=Machine()) as server:
        run = await server.run("is it fine?")
        for answer in (run.approve(), run.reject(), run.fill(to="x"), run.edit(a=1), run.result(1), run.answer("x")):
            with pytest.raises(WrongUse, match=r"the run waits for nothing\nTranscript of run .*: COMPLETED"):
                await answer


async def test_what_is_not_there_is_named_with_the_nearest(unpause: Unpause) -> None:
    two = RESTART.beside("send", subject="hi")
    async with unpause.serve(ops, model=two, deps=Machine()) as server:
        run = await server.run()
        with pytest.raises(WrongUse, match=r"does not wait for 'restrat': did you mean 'restart'\?"):
            await run.approve(call="restrat")
        with pytest.raises(WrongUse, match=r"fill\(too=…\): 'send' has no such field: did you mean 'to'\?"):
            await run.fill(too="x", call="send")
        with pytest.raises(
            WrongUse, match=r"edit\(amount=…\): 'restart' has no argument that people may change: there"
        ):
            await run.edit(amount=7, call="restart")
        with pytest.raises(WrongUse, match=r"no agent has such a tool: did you mean 'restart'\?"):
            async with server.crash_during("restrat"):
                pass
        with pytest.raises(WrongUse, match="the tool did not run in the block"):
            async with server.crash_during("restart"):
                pass
        with pytest.raises(WrongUse, match=r"agent='opps'.*did you mean 'ops'"):
            await server.run(agent="opps")
        with pytest.raises(WrongUse, match="without arguments changes nothing"):
            await run.edit(call="restart")
        with pytest.raises(WrongUse, match="a prompt, which is text, not None"):
            await server.run(None)  # type: ignore[arg-type]  # what the test is about
        with pytest.raises(WrongUse, match=r"run\(session=…\) takes text, not 7"):
            await server.run(session=7)  # type: ignore[arg-type]  # what the test is about
        with pytest.raises(WrongUse, match=r"reject\(note=…\) takes text, not 7"):
            await run.reject(7, call="restart")  # type: ignore[arg-type]  # what the test is about
        with pytest.raises(WrongUse, match="session_state and dependencies are JSON"):
            await server.run(metadata={"a": object()})
        with pytest.raises(RequirementMismatch, match="missing value for to"):
            await run.fill(copies=2, call="send")
        with pytest.raises(RequirementMismatch, match="field 'copies': Input should be a valid integer"):
            await run.fill(to="x", copies="many", call="send")


def test_a_script_with_arguments_that_are_no_json_is_refused_where_it_is_written() -> None:
    for value in (object(), "\ud800"):
        for write in (script, RESTART.then, RESTART.beside):
            with pytest.raises(WrongUse, match="the script calls 'restart' with arguments that are no JSON"):
                write("restart", service=value)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (script("restrat", service="nginx"), r"calls 'restrat', which the agent has not: did you mean 'restart'\?"),
        (script("restart", service=5), "calls 'restart' with arguments that do not fit: service: Input should be"),
        (script("restart"), "calls 'restart' with arguments that do not fit: service: Field required"),
    ],
)
async def test_a_script_that_does_not_fit_the_agent_fails_the_test(unpause: Unpause, wrong: object, words: str) -> None:
    async with unpause.serve(ops, model=wrong, deps=Machine()) as server:  # type: ignore[arg-type]  # a script
        with pytest.raises(WrongUse, match=words) as raised:
            await server.run()
    assert "Traceback" not in str(raised.value)


@pytest.mark.parametrize(
    ("agent", "options", "words"),
    [
        (ops, {"model": RESTART}, "agent 'ops' has deps_type=Machine: pass deps=… to unpause.serve"),
        (Agent(name="x"), {}, "agent 'x' has no model: give it one, or pass model=… to unpause.serve"),
        (Agent(), {"model": RESTART}, "an agent needs a name"),
        ("agents.py", {}, "takes Pydantic AI agents, not 'agents.py'"),
        (ops, {"model": "openai:x"}, "takes a script or a Pydantic AI model, not 'openai:x'"),
        (ops, {"settings": {"reminder_second": 5}}, "'reminder_second' is none .*did you mean 'reminder_seconds'"),
        (ops, {"settings": {"x": 5}}, "'x' is none that a test can set: there are [0-9]+ others"),
        (ops, {"settings": {"reminder_seconds": -5}}, "settings: reminder_seconds: Input should be greater than 0"),
        (ops, {"users": {"a": "agents:run"}}, "users: 'a' takes a list of scopes, not 'agents:run'"),
        (ops, {"users": {"a": ["agents:rum"]}}, "users: 'a': Unknown scope: agents:rum .did you mean agents:run"),
    ],
)
async def test_agents_that_cannot_be_served_are_refused(
    unpause: Unpause, agent: object, options: dict[str, object], words: str
) -> None:
    with pytest.raises(WrongUse, match=words):
        async with unpause.serve(agent, **options):  # type: ignore[arg-type]  # wrong on purpose
            pass


async def test_failed_expectations_show_the_transcript(unpause: Unpause) -> None:
    async with unpause.serve(ops, model=RESTART, deps=Machine()) as server:
        run = await server.run("please", user="dev-1")
        shown = r"Transcript of run .*agent ops, user dev-1.: PAUSED\n  user       please\n  model      calls restart"
        with pytest.raises(AssertionError, match=rf"has not completed\n{shown}"):
            _ = run.output
        with pytest.raises(AssertionError, match=rf"does not wait for restart.service='apache'.\n{shown}"):
            run.assert_waits_for("restart", service="apache")
        with pytest.raises(AssertionError, match=rf"no call of 'restart' is in doubt\n{shown}"):
            run.assert_in_doubt("restart")
        await run.cancel(by="boss")
        assert (run.status, run.error is not None, "cancelled" in run.transcript) == ("CANCELLED", True, True)


async def test_an_error_is_in_the_transcript(unpause: Unpause) -> None:
    agent = Agent(name="broken")

    @agent.tool_plain
    def fail() -> str:
        raise ZeroDivisionError("no luck")

    async def refuse(*sent: object) -> AsyncIterator[str]:
        if sent:
            raise ValueError("no model")
        yield ""

    async with unpause.serve(agent, model=script("fail")) as server:
        assert "  tool       fail failed: " in (await server.run()).transcript
    async with unpause.serve(agent, model=FunctionModel(stream_function=refuse)) as server:
        run = await server.run()
        assert (run.status, "no model" in str(run.error)) == ("ERROR", True)
        assert "ValueError: no model" in run.transcript


async def test_a_run_that_does_not_end_in_time_fails_with_its_transcript(unpause: Unpause) -> None:
    agent = Agent(name="slow")

    @agent.tool_plain
    async def wait() -> str:
        await asyncio.Event().wait()
        return ""

    async with unpause.serve(agent, model=script("wait"), timeout=0.3) as server:
        with pytest.raises(AssertionError, match=r"goes on after 0.3 seconds\nTranscript of run"):
            await server.run()


def test_check_says_what_the_command_says() -> None:
    with pytest.raises(AssertionError, match="error: agent 'ops' has deps_type=Machine and no factory"):
        check(ops)
    unkeyed = Agent("openai:gpt-5", name="unkeyed", defer_model_check=True)
    assert check(unkeyed).agents[0].id == "unkeyed"
    with pytest.raises(AssertionError, match="has no model"):
        check(Agent(name="x"), models=True)
