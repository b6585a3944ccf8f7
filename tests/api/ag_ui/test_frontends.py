"""Tools and context of a front end: the client runs its tools, and messages bring their results."""

from __future__ import annotations

from pathlib import Path

from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from tests.support.ag_ui import AgUiThread, no, yes
from tests.support.caller import body_of
from tests.support.server import Server, served

COLOR = {
    "name": "pick_color",
    "description": "Have the user pick a color.",
    "parameters": {"type": "object", "properties": {"of": {"type": "string"}}},
}
PICK = ("pick_color", {"of": "sky"})
DELETE = ("delete_file", {"path": "/a"})


def result(call_id: str, content: object = "blue", **more: object) -> dict[str, object]:
    return {"id": f"result-{call_id}", "role": "tool", "toolCallId": call_id, "content": content, **more}


async def test_a_call_of_a_frontend_tool_ends_the_run_and_its_message_continues_it(
    thread: AgUiThread, server: Server
) -> None:
    first = await thread.say([PICK], tools=[COLOR])
    assert first.calls == [PICK]
    assert (first.outcome, first.results) == ("success", {})
    (call_id,) = first.pending
    thread.messages.append(result(call_id))
    second = thread.keep(await thread.send(tools=[COLOR]))
    assert "TOOL_CALL_RESULT" not in second.types, "the client has it"
    assert second.text == "Done. pick_color: blue."
    (run,) = (await server.get("/sessions/thread-1/runs")).json()
    assert run["status"] == "COMPLETED"


async def test_a_thread_that_goes_on_has_to_answer_all_of_them_first(thread: AgUiThread) -> None:
    first = await thread.say([PICK, ("pick_color", {"of": "sea"})], tools=[COLOR])
    one, two = first.pending
    thread.messages.append(result(one))
    partial = await thread.send()
    assert (partial.types, partial.error.code) == (["RUN_ERROR"], "bad_request")
    assert two in partial.error.message
    moving_on = await thread.send(messages=[*thread.messages, {"id": "u", "role": "user", "content": "never mind"}])
    assert two in moving_on.error.message
    thread.messages.append(result(two, "", error="the user left"))
    done = await thread.send()
    assert done.text == "Done. pick_color: blue. pick_color: Error: the user left."


async def test_interrupts_and_frontend_calls_are_answered_together(thread: AgUiThread, server: Server) -> None:
    first = await thread.say([PICK, DELETE], tools=[COLOR])
    (interrupt,) = first.interrupts
    call_id = next(event.tool_call_id for event in first.events if event.type == "TOOL_CALL_START")
    assert call_id in (await thread.send(resume=[yes(interrupt)])).error.message
    thread.messages.append(result(call_id))
    assert (
        await thread.send(resume=[yes(interrupt)])
    ).text == "Done. pick_color: blue. delete_file: did delete_file(/a)."
    assert server.executed == ["delete_file(/a)"]


async def test_a_result_that_comes_again_does_nothing_more_and_another_one_is_too_late(
    thread: AgUiThread, server: Server
) -> None:
    first = await thread.say([PICK], [DELETE], tools=[COLOR])
    (call_id,) = first.pending
    thread.messages.append(result(call_id))
    second = await thread.send()
    again = await thread.send()
    assert (again.ids, again.types) == (second.ids, second.types)
    thread.messages[-1] = result(call_id, "red")
    late = await thread.send()
    assert late.types == ["RUN_STARTED", "RUN_FINISHED", "RUN_ERROR"] or late.interrupts
    assert (await server.get("/sessions/thread-1/runs")).json()[0]["status"] == "PAUSED"


async def test_a_client_cannot_put_its_tool_in_the_place_of_the_agent_s(thread: AgUiThread, server: Server) -> None:
    mine = [{"name": name, "description": "mine"} for name in ("delete_file", "note", "run_shell")]
    first = await thread.say([DELETE, ("note", {"text": "x"})], tools=mine)
    assert [item.metadata["unpause"]["toolName"] for item in first.interrupts] == ["delete_file"]
    assert server.executed == ["note(x)"]
    await thread.resume(no(first.interrupts[0]))
    # One that runs elsewhere, by the agent's own author, is the client's to run if it says so.
    second = await thread.say([("run_shell", {"command": "ls"})], tools=mine)
    assert second.outcome == "success"
    assert len(second.pending) == 1


async def test_tools_and_context_are_the_run_s_after_a_restart_too(tmp_path: Path) -> None:
    seen: list[tuple[list[str], str | None]] = []

    async def answer(messages: list[ModelMessage], info: AgentInfo) -> object:
        seen.append(([tool.name for tool in info.function_tools], info.instructions))
        if len(messages) == 1:
            yield {0: _call("pick_color")}
        elif len(messages) == 3:
            yield {0: _call("pick_color", "2")}
        else:
            yield "thanks"

    def agent() -> Agent[None, str]:
        return Agent(FunctionModel(stream_function=answer), name="toolbox", instructions="Be kind.")  # type: ignore[arg-type]

    context = [{"description": "The page", "value": "settings"}]
    async with served(tmp_path, agent()) as server:
        thread = AgUiThread(server)
        first = await thread.say("hello", tools=[COLOR], context=context)
    thread.messages.append(result(first.pending[0]))
    async with served(tmp_path, agent()) as server:
        thread.caller = server
        second = thread.keep(await thread.send())
        thread.messages.append(result(second.pending[0]))
        assert (await thread.send()).text == "thanks"
    assert [tools for tools, _ in seen] == [["pick_color"]] * 3
    assert all(text is not None and "Be kind." in text and "The page: settings" in text for _, text in seen)


async def test_a_tool_with_the_name_of_an_output_tool_is_left_out(tmp_path: Path) -> None:
    async def answer(_messages: list[ModelMessage], info: AgentInfo) -> object:
        assert [tool.name for tool in info.function_tools] == ["pick_color"]
        yield {0: DeltaToolCall("final_result", '{"response": 7}', tool_call_id="c")}

    agent = Agent(FunctionModel(stream_function=answer), name="toolbox", output_type=int)  # type: ignore[arg-type]
    async with served(tmp_path, agent) as server:
        end = (await AgUiThread(server).say("hi", tools=[{**COLOR, "name": "final_result"}, COLOR])).end
    assert end.result == 7


NOT_SCHEMAS: list[object] = [
    [1],
    "object",
    {"type": "array"},
    {"properties": []},
    {"properties": {"b": 5}},
    {"required": "b"},
]

NOT_TOOLS: list[object] = [
    [{"name": "", "description": "x"}],
    [{"name": "a b", "description": "x"}],
    [{"name": "x" * 65, "description": "x"}],
    [COLOR, COLOR],
]


async def test_a_tool_that_no_model_can_be_shown_is_refused(thread: AgUiThread) -> None:
    thread.messages.append({"id": "u", "role": "user", "content": "hello"})
    unfit = [[{"name": "a", "description": "x", "parameters": schema}] for schema in NOT_SCHEMAS]
    for tools in [*NOT_TOOLS, *unfit]:
        assert "tools" in body_of(await thread.post(tools=tools), 400)["detail"]


def _call(name: str, call_id: str = "1") -> DeltaToolCall:
    return DeltaToolCall(name, "{}", tool_call_id=f"call-{call_id}")
