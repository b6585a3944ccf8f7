"""Runs over AG-UI: their events, in the order that the specification demands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import validator_for
from pydantic import BaseModel
from pydantic_ai import Agent

from tests.support.ag_ui import AgUiThread, no, yes
from tests.support.agents import Call, ScriptedModel
from tests.support.server import Server, served
from unpause.agents.policy import policy

DELETE = ("delete_file", {"path": "/a"})
EMAIL = ("send_email", {"subject": "Hi"})
SHELL = ("run_shell", {"command": "ls"})
NOTE = ("note", {"text": "x"})


async def test_an_answer_is_one_message_between_the_ends_of_the_run(thread: AgUiThread) -> None:
    stream = await thread.say("hello")
    assert stream.types == [
        "RUN_STARTED",
        "STATE_SNAPSHOT",
        "TEXT_MESSAGE_START",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_CONTENT",
        "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]
    started = stream.events[0]
    assert (started.thread_id, started.run_id, started.protocol_version) == ("thread-1", "run-1", "1.0")
    assert (stream.text, stream.outcome) == ("Done. The user said ['hello'].", "success")
    assert stream.end.result == stream.text
    assert all(event.timestamp for event in stream.events)


async def test_a_call_is_shown_with_its_arguments_and_its_result(thread: AgUiThread, server: Server) -> None:
    stream = await thread.say([NOTE])
    assert stream.calls == [("note", {"text": "x"})]
    assert list(stream.results.values()) == ["did note(x)"]
    assert stream.text == "Done. note: did note(x)."
    assert server.executed == ["note(x)"]


async def test_a_pause_is_an_interrupt_for_each_open_call(thread: AgUiThread) -> None:
    stream = await thread.say([DELETE, EMAIL, SHELL, NOTE])
    assert stream.outcome == "interrupt"
    assert [(item.reason, item.metadata["unpause"]["toolName"]) for item in stream.interrupts] == [
        ("tool_call", "delete_file"),
        ("input_required", "send_email"),
        ("unpause:external_execution", "run_shell"),
    ]
    shown = {event.tool_call_id for event in stream.events if event.type == "TOOL_CALL_START"}
    assert {item.tool_call_id for item in stream.interrupts} <= shown
    assert dict(stream.calls)["delete_file"] == {"path": "/a"}
    assert all(item.message and item.response_schema["type"] == "object" for item in stream.interrupts)


async def test_approved_answered_and_run_elsewhere_at_once(thread: AgUiThread, server: Server) -> None:
    first = await thread.say([DELETE, EMAIL, SHELL])
    delete, email, shell = first.interrupts
    assert email.response_schema["properties"]["values"]["required"] == ["to_address", "body"]
    stream = await thread.resume(
        yes(delete), yes(email, values={"to_address": "bob@x.org", "body": "hello"}), yes(shell, result={"files": 1})
    )
    assert stream.events[0].run_id == "run-2"
    assert stream.calls == [], "a call is shown once"
    assert sorted(server.executed) == ["delete_file(/a)", "send_email(Hi, bob@x.org, hello)"]
    assert stream.results[shell.tool_call_id] == '{"files":1}'
    assert stream.results[delete.tool_call_id] == "did delete_file(/a)"
    assert stream.outcome == "success"
    assert [run["via"] for run in await server.audit() if "via" in run][-1:] == ["ag-ui"]


async def test_a_rejection_has_its_note_as_the_result(thread: AgUiThread, server: Server) -> None:
    for note, text in (("too risky", "too risky"), (None, "Function call was rejected by the user")):
        (interrupt,) = (await thread.say([DELETE])).interrupts
        stream = await thread.resume(no(interrupt, note))
        assert stream.results == {interrupt.tool_call_id: text}
        assert stream.text == f"Done. delete_file: {text}."
    assert server.executed == []


async def test_arguments_are_edited_where_the_policy_allows_it(thread: AgUiThread, server: Server) -> None:
    (interrupt,) = (await thread.say([("move_file", {"source": "a", "target": "b"})])).interrupts
    assert list(interrupt.response_schema["properties"]["editedArgs"]["properties"]) == ["target"]
    refused = await thread.send(resume=[yes(interrupt, approved=True, editedArgs={"source": "x", "target": "c"})])
    assert (refused.types, refused.error.code) == (["RUN_ERROR"], "bad_request")
    assert "source" in refused.error.message
    await thread.resume(yes(interrupt, approved=True, editedArgs={"source": "a", "target": "c"}))
    assert server.executed == ["move_file(a, c)"]


async def test_arguments_are_not_edited_where_no_policy_allows_it(thread: AgUiThread, server: Server) -> None:
    (interrupt,) = (await thread.say([DELETE])).interrupts
    assert "editedArgs" not in interrupt.response_schema["properties"]
    refused = await thread.send(resume=[yes(interrupt, approved=True, editedArgs={"path": "/etc"})])
    assert refused.error.code == "bad_request"
    assert server.executed == []
    assert (await thread.resume(yes(interrupt))).outcome == "success"


async def test_a_question_is_answered_in_words(thread: AgUiThread) -> None:
    (interrupt,) = (await thread.say([("ask", {"question": "Which one?"})])).interrupts
    assert (interrupt.reason, interrupt.message) == ("input_required", "Which one?")
    assert interrupt.response_schema["properties"]["result"]["type"] == "string"
    stream = await thread.resume(yes(interrupt, result="the red one"))
    assert stream.results == {interrupt.tool_call_id: "the red one"}
    assert "the red one" in stream.text


async def test_a_run_pauses_again_after_a_resume(thread: AgUiThread, server: Server) -> None:
    first = await thread.say([DELETE], [("delete_file", {"path": "/b"})])
    second = await thread.resume(yes(first.interrupts[0]))
    assert second.calls == [("delete_file", {"path": "/b"})]
    assert second.interrupts[0].id != first.interrupts[0].id
    assert (await thread.resume(yes(second.interrupts[0]))).outcome == "success"
    assert server.executed == ["delete_file(/a)", "delete_file(/b)"]


async def test_the_next_message_is_another_run_of_the_session(thread: AgUiThread, server: Server) -> None:
    await thread.say("hello")
    await thread.say([NOTE])
    runs = (await server.get("/sessions/thread-1/runs")).json()
    assert [run["run_input"] for run in runs] == ["hello", json.dumps([[list(NOTE)]])]


async def test_a_cancelled_run_is_neither_a_success_nor_a_failure(thread: AgUiThread, server: Server) -> None:
    first = await thread.say([DELETE])
    run_id = first.events[0].metadata["unpause"]["runId"]
    await server.cancel({"run_id": run_id})
    stream = await thread.send(resume=[yes(first.interrupts[0])])
    assert stream.types == ["RUN_STARTED", "RUN_FINISHED", "RUN_ERROR"]
    assert "CANCELLED" in stream.error.message
    again = await server.get(f"{thread.path}/{run_id}/events")
    assert '"outcome":{"type":"cancelled"}' in again.text


async def test_state_and_props_are_the_run_s(thread: AgUiThread, server: Server) -> None:
    stream = await thread.say("hello", state={"theme": "dark"}, forwardedProps={"tenant": 7})
    assert stream.events[1].snapshot == {"theme": "dark"}
    run = await server.read({"run_id": stream.events[0].metadata["unpause"]["runId"]})
    assert (run["session_state"], run["metadata"]) == ({"theme": "dark"}, {"forwardedProps": {"tenant": 7}})
    assert (await thread.say("again")).events[1].snapshot == {"theme": "dark"}


class Node(BaseModel):
    """A form within a form, to any depth."""

    name: str
    children: list[Node] = []


@pytest.mark.parametrize(
    ("rules", "key"),
    [(policy(user_input=["root", "rest"]), "values"), (policy(editable=["root", "rest"]), "editedArgs")],
)
async def test_a_response_schema_has_all_that_it_refers_to(tmp_path: Path, rules: dict[str, Any], key: str) -> None:
    arguments = {"root": {"name": "a"}, "rest": []}
    agent = Agent(ScriptedModel([Call("plant", {} if key == "values" else arguments)]).model, name="toolbox")

    @agent.tool_plain(requires_approval=key == "editedArgs", metadata=rules)
    def plant(root: Node, rest: list[Node]) -> str:
        """Plant trees."""
        return f"{root.children[0].name} {len(rest)}"

    async with served(tmp_path, agent) as server:
        thread = AgUiThread(server)
        (interrupt,) = (await thread.say("go")).interrupts
        schema = validator_for(interrupt.response_schema)
        payload = {"approved": True, key: {"root": {"name": "a", "children": [{"name": "b"}]}, "rest": []}}
        assert schema.is_valid(payload)
        assert not schema.is_valid({"approved": True, key: {"root": {"name": "a", "children": [{}]}, "rest": []}})
        assert list((await thread.resume(yes(interrupt, **payload))).results.values()) == ["b 0"]
