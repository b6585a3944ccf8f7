"""The key that a tool gives its service is one for each decision, wherever and however often the call runs."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, RunContext, TextOutput, Tool
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from tests.agents.pydantic_ai.driving import driving
from tests.support.agents import Call, ScriptedModel
from tests.support.gates import Gates
from unpause import idempotency_key


class Payments:
    """Keeps the keys that it is sent."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.threads: set[int] = set()

    async def pay(self, ctx: RunContext[Any]) -> str:
        """Pay."""
        self.keys.append(idempotency_key(ctx))
        return "paid"

    def pay_in_a_thread(self, ctx: RunContext[Any]) -> str:
        """Pay, blocking."""
        self.threads.add(threading.get_ident())
        self.keys.append(idempotency_key(ctx))
        return "paid"


async def test_calls_of_one_answer_have_their_own_keys_also_in_threads(tmp_path: Path) -> None:
    payments = Payments()
    script = ScriptedModel([Call("pay", {}, "a"), Call("pay", {}, "b"), Call("pay_in_a_thread", {}, "c")])
    agent = Agent(script.model, name="agent", tools=[payments.pay, payments.pay_in_a_thread])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        assert sorted(payments.keys) == [f"{run['run_id']}:{call_id}" for call_id in "abc"]
        assert payments.threads.isdisjoint({threading.get_ident()})


async def test_a_call_in_doubt_that_runs_again_has_the_key_of_the_call_that_was_cut_off(tmp_path: Path) -> None:
    payments, gates = Payments(), Gates("pay")

    async def pay(ctx: RunContext[None]) -> str:
        paid = await payments.pay(ctx)
        await gates.pass_through("pay")
        return paid

    script = ScriptedModel([Call("pay", {}, "a")])
    agent = Agent(script.model, name="agent", tools=[pay])
    async with driving(tmp_path, agent, shutdown_grace_seconds=0) as server:
        run = await server.begin("go", agent="agent")
        await gates.reached("pay")
    gates.open("pay")
    async with driving(tmp_path, agent) as server:
        await server.confirm(await server.settled(run))
    assert payments.keys == [f"{run['run_id']}:a"] * 2


async def test_a_call_of_a_nested_agent_has_the_key_of_its_outer_call_and_its_own_id(tmp_path: Path) -> None:
    payments = Payments()

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        del info
        # The same ids as the outer model's.
        return ModelResponse([ToolCallPart("pay", {}, "a") if len(messages) == 1 else TextPart("paid")])

    inner = Agent(FunctionModel(answer), tools=[payments.pay])

    async def delegate(ctx: RunContext[None]) -> str:
        payments.keys.append(idempotency_key(ctx))
        return (await inner.run("pay")).output

    script = ScriptedModel([Call("delegate", {}, "a"), Call("delegate", {}, "b")])
    async with driving(tmp_path, Agent(script.model, name="agent", tools=[delegate])) as server:
        run = await server.run()
    expected = [f"{run['run_id']}:{key}" for key in ("a", "a:a", "b", "b:a")]
    assert sorted(payments.keys) == expected


@pytest.mark.parametrize("kind", ["text", "function"])
async def test_an_output_function_has_a_key(tmp_path: Path, kind: str) -> None:
    payments = Payments()

    async def send(ctx: RunContext[None], text: str) -> str:
        return f"{text} {await payments.pay(ctx)}"

    script = ScriptedModel("all" if kind == "text" else [Call("final_result", {"text": "all"}, "o")])
    agent = Agent(script.model, name="agent", output_type=TextOutput(send) if kind == "text" else send)
    async with driving(tmp_path, agent) as server:
        run = await server.run()
    assert run["content"] == "all paid"
    (key,) = payments.keys
    run_id, _, call_id = key.partition(":")
    assert run_id == run["run_id"]
    assert call_id == "o" or kind == "text"
    assert call_id


async def test_a_validator_of_arguments_sees_the_key_that_its_tool_gives(tmp_path: Path) -> None:
    payments = Payments()

    async def check(ctx: RunContext[None]) -> None:
        await payments.pay(ctx)

    script = ScriptedModel([Call("pay", {}, "a")])
    agent = Agent(script.model, name="agent", tools=[Tool(payments.pay, args_validator=check)])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
    assert payments.keys == [f"{run['run_id']}:a"] * 2


async def test_without_a_server_the_key_is_made_of_the_framework_s_ids() -> None:
    payments = Payments()
    result = await Agent(TestModel(), tools=[payments.pay]).run("go")
    (key,) = payments.keys
    assert key.startswith(f"{result.run_id}:")


async def test_outside_of_a_tool_call_there_is_no_key() -> None:
    agent = Agent(TestModel())

    @agent.instructions
    def instruct(ctx: RunContext[object]) -> str:
        return idempotency_key(ctx)

    with pytest.raises(ValueError, match="needs the context of a tool call"):
        await agent.run("go")
