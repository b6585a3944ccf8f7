"""Halves of surrogate pairs, U+0000, odd numbers and bottomless nesting, wherever models and tools make them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, Tool
from pydantic_ai.messages import RetryPromptPart, SystemPromptPart, ToolReturnPart

from tests.agents.pydantic_ai.driving import driving, said_by_tools
from tests.support.agents import Call, ScriptedModel, Thought, parts_of
from tests.support.toolbox import JsonObject
from unpause.agents.pydantic_ai.model_output import TextJoiner

_HIGH, _LOW = "\ud83d", "\ude00"


class Answer(BaseModel):
    """A structured answer."""

    text: str


def echo(value: Any) -> str:  # noqa: ANN401
    """Return the value as text."""
    return json.dumps(value)


def raise_half() -> str:
    """Fail with half a character."""
    raise RuntimeError(_HIGH + "!")


def ask_again() -> str:
    """Ask for another try, with half a character."""
    raise ModelRetry(_LOW)


def give_half() -> dict[str, str]:
    """Return half a character."""
    return {"name": "caf" + _HIGH}


def _texts(events: list[JsonObject], key: str) -> list[str]:
    return [event[key] for event in events if event["event"] == "RunContent" and event[key]]


async def test_a_character_that_is_cut_in_two_is_joined_and_half_a_one_replaced(tmp_path: Path) -> None:
    script = ScriptedModel(
        [Thought("t" + _HIGH), Thought("u" + _LOW), "x" + _HIGH, _LOW + "y", _HIGH, _LOW, "z" + _HIGH]
    )
    async with driving(tmp_path, Agent(script.model, name="agent")) as server:
        events = await server.events()
        run = (await server.get(f"/agents/agent/runs/{events[0]['run_id']}")).json()
    assert _texts(events, "content") == ["x", "\U0001f600y", "\U0001f600", "z", "\ufffd"]
    assert _texts(events, "reasoning_content") == ["t", "\ufffd", "u\ufffd"]
    assert events[-1]["content"] == run["content"] == "x\U0001f600y\U0001f600z\ufffd"


async def test_halves_in_what_tools_give_and_raise_are_replaced_for_clients_and_model(tmp_path: Path) -> None:
    script = ScriptedModel([Call("give_half"), Call("raise_half"), Call("ask_again"), Call("no" + _HIGH)], "done")
    tools = [give_half, raise_half, ask_again]
    agent = Agent(script.model, name="agent", tools=tools, system_prompt="a" + _LOW, instructions=lambda: "i" + _HIGH)
    async with driving(tmp_path, agent) as server:
        done = await server.run()
    assert (done["status"], done["content"]) == ("COMPLETED", "done")
    assert [tool["result"] for tool in done["tools"][:3]] == ['{"name":"caf\ufffd"}', "\ufffd!", "\ufffd"]
    assert done["tools"][3]["tool_name"] == "no\ufffd"
    assert parts_of(script.requests[0], SystemPromptPart)[0].content == "a\ufffd"
    assert getattr(script.requests[0][0], "instructions", None) == "i\ufffd"
    read = parts_of(script.requests[1], ToolReturnPart, RetryPromptPart)
    assert not {_HIGH, _LOW} & set(repr([(part.content, part.tool_name) for part in read]))
    assert read[0].content == {"name": "caf\ufffd"}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ('{"value": "\\ud83d"}', "\ufffd"),
        ('{"value": {"\\udc00": "\\ud83d\\ude00"}}', {"\ufffd": "\U0001f600"}),
        ('{"value": "a\\u0000"}', "a\ufffd"),
        ('{"value": "' + _HIGH + '"}', "\ufffd"),
        ({"value": [_HIGH + _LOW, _LOW]}, ["\U0001f600", "\ufffd"]),
        ('{"value": [NaN, -Infinity, 1e400, 1e22]}', ["NaN", "-Infinity", "Infinity", 1e22]),
        ('{"value": [1, 36893488147419103232]}', [1, 2**65]),
        ('{"value": 1, "value": 2}', 2),
        ('{"value": "NaN \\\\u0000"}', "NaN \\u0000"),
    ],
    ids=str,
)
async def test_what_is_shown_of_arguments_is_what_the_tool_gets(tmp_path: Path, sent: Any, kept: Any) -> None:  # noqa: ANN401
    script = ScriptedModel([Call("echo", sent)], "done")
    agent = Agent(script.model, name="agent", tools=[Tool(echo, requires_approval=True)])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        assert (run["status"], run["tools"][0]["tool_args"]) == ("PAUSED", {"value": kept})
        done = await server.confirm(run)
    assert said_by_tools(done) == [("echo", json.dumps(kept))]


async def test_arguments_nested_too_deeply_are_sent_back_to_the_model(tmp_path: Path) -> None:
    def nested(levels: int) -> str:
        return '{"value": ' + "[" * (levels - 1) + "]" * (levels - 1) + "}"

    deep = [Call("echo", nested(levels)) for levels in (101, 220, 100_000)]
    script = ScriptedModel(*([call] for call in deep), [Call("echo", nested(100))], "done")
    agent = Agent(script.model, name="agent", tools=[Tool(echo, requires_approval=True, max_retries=3)])
    async with driving(tmp_path, agent) as server:
        paused = await server.run()
        reported = parts_of(script.requests[-1], ToolReturnPart, RetryPromptPart)
        assert paused["status"] == "PAUSED"
        done = await server.confirm(paused)
        log = await server.get("/v1/organizations/1/agent/run/1/logs")
    assert len(reported) == 3
    assert all("nested in more than 100 levels" in str(part.content) for part in reported)
    assert (done["status"], log.status_code) == ("COMPLETED", 200)
    assert said_by_tools(done)[-1] == ("echo", "[" * 99 + "]" * 99)


async def test_a_structured_answer_is_replaced_in_too(tmp_path: Path) -> None:
    script = ScriptedModel([Call("final_result", {"text": _HIGH + "\0"})])
    agent = Agent(script.model, name="agent", output_type=Answer)
    async with driving(tmp_path, agent) as server:
        done = await server.run()
    assert (done["status"], done["content"]) == ("COMPLETED", {"text": "\ufffd\ufffd"})


def test_a_text_is_joined_however_it_is_cut() -> None:
    text = f"a{_HIGH}{_LOW}b{_HIGH}{_HIGH}{_LOW}{_LOW}c{_HIGH}"
    joined = "a\U0001f600b\ufffd\U0001f600\ufffdc\ufffd"
    for size in range(1, len(text) + 1):
        joiner = TextJoiner()
        pieces = [joiner.add(text[start : start + size]) for start in range(0, len(text), size)]
        assert "".join([*pieces, joiner.finish()]) == joined
