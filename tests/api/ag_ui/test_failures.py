"""What goes wrong within a run, what a model thinks, and streams that are cut off."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent

from tests.support.ag_ui import AgUiThread, read_stream, yes
from tests.support.agents import Call, ScriptedModel, Thought, Turn
from tests.support.gates import Gates
from tests.support.server import Server, served
from tests.support.toolbox import plan


def agent_of(*turns: Turn, **options: Any) -> Agent[None, Any]:  # noqa: ANN401 - any option of an agent
    agent: Agent[None, Any] = Agent(ScriptedModel(*turns).model, name="toolbox", **options)

    @agent.tool_plain
    def divide(by: int) -> float:
        """Divide."""
        return 1 / by

    return agent


async def test_thoughts_and_texts_are_messages_of_their_own(tmp_path: Path) -> None:
    turns: list[Turn] = [[Thought("hm"), Thought("aha"), "Well: ", Call("divide", {"by": 2})], "half"]
    async with served(tmp_path, agent_of(*turns)) as server:
        stream = await AgUiThread(server).say("hello")
    assert stream.types == [
        *("RUN_STARTED", "STATE_SNAPSHOT", "REASONING_START", "REASONING_MESSAGE_START"),
        *["REASONING_MESSAGE_CONTENT"] * (len(stream.of_type("REASONING_MESSAGE_CONTENT"))),
        *("REASONING_MESSAGE_END", "REASONING_END", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END"),
        *("TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_RESULT"),
        *("TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED"),
    ]
    assert "".join(event.delta for event in stream.of_type("REASONING_MESSAGE_CONTENT")) == "hmaha"
    said, called = stream.of_type("TEXT_MESSAGE_START")[0], stream.of_type("TOOL_CALL_START")[0]
    assert called.parent_message_id == said.message_id


async def test_a_tool_that_fails_has_its_error_as_the_result_and_the_run_goes_on(tmp_path: Path) -> None:
    async with served(tmp_path, agent_of([Call("divide", {"by": 0})], "sorry")) as server:
        stream = await AgUiThread(server).say("hello")
    (failed,) = stream.of_type("TOOL_CALL_RESULT")
    assert "division by zero" in failed.content
    assert failed.metadata == {"unpause": {"outcome": "failed"}}
    assert (stream.text, stream.outcome) == ("sorry", "success")


async def test_a_model_that_fails_ends_the_run_with_an_error(tmp_path: Path) -> None:
    async with served(tmp_path, agent_of(["Well, ", RuntimeError("boom")])) as server:
        thread = AgUiThread(server)
        stream = await thread.say("hello")
        assert (stream.types[-2:], stream.error.code) == (["TEXT_MESSAGE_END", "RUN_ERROR"], "model_error")
        assert (await thread.say("once more")).text == "done"


async def test_an_answer_of_another_type_than_text_is_shown_and_is_the_result(tmp_path: Path) -> None:
    class City(BaseModel):
        name: str

    turn = [Call("final_result", {"name": "Bern"})]
    async with served(tmp_path, agent_of(turn, output_type=City)) as server:
        stream = await AgUiThread(server).say("hello")
    assert (stream.text, stream.end.result) == ('{"name":"Bern"}', {"name": "Bern"})


async def test_a_client_that_goes_away_does_not_stop_its_run_and_finds_it_again(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates) as server:
        thread = AgUiThread(server)
        (hold,) = (await thread.say(plan([("hold", {"name": "door"})]))).interrupts
        gone = asyncio.ensure_future(thread.send(resume=[yes(hold)], runId="r2"))
        await gates.reached("door")
        gone.cancel()
        await asyncio.wait([gone])
        following = asyncio.ensure_future(server.get(f"{thread.path}/r2/events"))
        reloaded = asyncio.ensure_future(thread.send(messages=[]))
        impatient = asyncio.ensure_future(thread.send(messages=thread.messages[:1]))
        # Before the run ends: afterwards a page gets the messages as a snapshot.
        await server.followed_by(3)
        gates.open("door")
        stream = read_stream((await following).text)
        assert (stream.events[0].run_id, stream.text) == ("r2", "Done. hold: did hold(door).")
        # A page that is loaded anew has no messages, and follows what runs.
        assert (await reloaded).text == stream.text
        # One that sends its prompt again waits for the answer of the run that has it.
        assert (await impatient).text == stream.text
        assert server.executed == ["hold(door)"]


async def test_a_client_that_goes_away_while_it_sends_is_no_failure_of_the_server(server: Server) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1:7777"), (b"content-type", b"application/json"), (b"content-length", b"9")]
    scope = {"type": "http", "method": "POST", "path": "/agents/toolbox/ag-ui", "query_string": b"", "headers": headers}
    await server.app({**scope, "http_version": "1.1", "scheme": "http", "client": ("127.0.0.1", 5)}, receive, send)
    assert sent[0]["status"] == 400
