"""Ids of calls: at most 64 characters, and none twice in what a model is sent."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolCallPart, ToolReturnPart

from tests.agents.pydantic_ai.driving import driving
from tests.support.agents import Call, ScriptedModel, Turn, parts_of
from unpause.agents.pydantic_ai.model_output import make_history_ids_unique, make_ids_unique
from unpause.clock import RandomIds


def act() -> str:
    """Act."""
    return "acted"


def _ids(messages: list[ModelMessage], kind: type[ToolCallPart | ToolReturnPart]) -> list[str]:
    return [part.tool_call_id for part in parts_of(messages, kind)]


async def test_two_runs_and_two_answers_with_the_same_id_reach_the_model_with_different_ones(tmp_path: Path) -> None:
    turns: list[Turn] = [[Call("act", call_id="call_0")], [Call("act", call_id="call_0")], "done"]
    script = ScriptedModel(*turns, *turns)
    async with driving(tmp_path, Agent(script.model, name="agent", tools=[act])) as server:
        first = await server.run("first", session_id="s")
        second = await server.run("second", session_id="s")
    calls = _ids(script.requests[-1], ToolCallPart)
    assert calls == _ids(script.requests[-1], ToolReturnPart)
    assert len(set(calls)) == len(calls) == 4
    assert calls == [tool["tool_call_id"] for run in (first, second) for tool in run["tools"]]
    assert calls[0] == "call_0"
    assert all(call.startswith("call_0-") for call in calls[1:])


@pytest.mark.parametrize("call_id", ["x" * 64, "functions.act:0", "toolu_01A", "call|fc_1"])
def test_an_id_that_is_fine_stays_as_it_is(call_id: str) -> None:
    response = ModelResponse([ToolCallPart("act", {}, call_id)])
    make_ids_unique(response, set(), RandomIds())
    assert response.tool_calls[0].tool_call_id == call_id


@pytest.mark.parametrize("call_id", ["", "x" * 65, "x" * 300, "a b", "a\n", "\ud83d", "ü", "a\0"])
def test_an_id_that_not_every_provider_takes_is_replaced(call_id: str) -> None:
    seen = set[str]()
    response = ModelResponse([ToolCallPart("act", {}, call_id, id="item"), ToolCallPart("act", {}, call_id)])
    make_ids_unique(response, seen, RandomIds())
    first, second = response.tool_calls
    assert {first.tool_call_id, second.tool_call_id} == seen
    assert len(seen) == 2
    assert all(one.startswith("call_") and len(one) <= 64 and one.isascii() for one in seen)
    assert first.id is None


def test_an_id_that_comes_again_and_again_does_not_grow() -> None:
    seen = set[str]()
    for call_id in ["x" * 64] * 4:
        make_ids_unique(ModelResponse([ToolCallPart("act", {}, call_id)]), seen, RandomIds())
    assert len(seen) == 4
    assert max(map(len, seen)) == 64


async def test_a_run_with_an_id_of_300_characters_is_completed(tmp_path: Path) -> None:
    script = ScriptedModel([Call("act", call_id="x" * 300)], "done")
    async with driving(tmp_path, Agent(script.model, name="agent", tools=[act])) as server:
        done = await server.run()
    assert (done["status"], len(done["tools"][0]["tool_call_id"])) == ("COMPLETED", 41)


def test_runs_that_were_executed_at_the_same_time_are_told_apart_in_the_history() -> None:
    def run() -> list[ModelMessage]:
        return [
            ModelResponse([ToolCallPart("act", {}, "call_0"), ToolCallPart("act", {}, "own")]),
            ModelRequest([ToolReturnPart("act", "acted", "call_0"), ToolReturnPart("act", "acted", "own")]),
        ]

    history, same = [*run(), *run()], [*run(), *run()]
    for messages in (history, same):
        make_history_ids_unique(messages, {"own"})
    assert _ids(history, ToolCallPart) == ["call_0", "own-2", "call_0-2", "own-3"]
    assert _ids(history, ToolReturnPart) == _ids(history, ToolCallPart)
    assert _ids(same, ToolCallPart) == _ids(history, ToolCallPart)
