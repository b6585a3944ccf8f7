"""Continues that AgentOS's API refuses: with which words, and that nothing changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.caller import confirmed, filled_in, rejected
from tests.support.server import Server
from tests.support.toolbox import JsonObject

DELETE = ("delete_file", {"path": "/a"})
EMAIL = ("send_email", {"subject": "Hi"})
SHELL = ("run_shell", {"command": "ls"})


NO_LISTS = [
    ("{not json", "Invalid JSON in tools field"),
    ("[", "Invalid JSON in tools field"),
    ("[NaN]", "Invalid JSON in tools field"),
    ("[Infinity]", "Invalid JSON in tools field"),
    ("[{}] trailing", "Invalid JSON in tools field"),
    ('["\\ud800"]', "Invalid JSON in tools field"),
    ("[" * 99_000, "Invalid JSON in tools field"),
    ("[" * 5_000 + "]" * 5_000, "Invalid JSON in tools field"),
    ('{"a":1}', "Invalid structure or content for tools: 'str' object has no attribute 'get'"),
    ('"abc"', "Invalid structure or content for tools: 'str' object has no attribute 'get'"),
    ('["abc"]', "Invalid structure or content for tools: 'str' object has no attribute 'get'"),
    ("5", "Invalid structure or content for tools: 'int' object is not iterable"),
    ("1.5", "Invalid structure or content for tools: 'float' object is not iterable"),
    ("true", "Invalid structure or content for tools: 'bool' object is not iterable"),
    ("[null]", "Invalid structure or content for tools: 'NoneType' object has no attribute 'get'"),
    ("[5]", "Invalid structure or content for tools: 'int' object has no attribute 'get'"),
    ("[[]]", "Invalid structure or content for tools: 'list' object has no attribute 'get'"),
    ("9" * 4_000, "Invalid structure or content for tools: 'int' object is not iterable"),
    ("9" * 10_000, "Invalid JSON in tools field"),
]


async def test_tools_that_are_no_list_of_objects_get_the_texts_of_the_original(server: Server) -> None:
    run = await server.create([DELETE])
    for text, detail in NO_LISTS:
        assert await server.refused(run, text) == (400, {"detail": detail}), text[:24]


async def test_no_decision_at_all_is_no_rejection_and_names_what_is_open(server: Server) -> None:
    run = await server.create([DELETE, EMAIL, SHELL])
    for tools in ("", "  ", "null", "[]", run["tools"]):
        status, body = await server.refused(run, tools)
        assert status == 400
        for tool in run["tools"]:
            assert f"{tool['tool_name']} ({tool['tool_call_id']})" in body["detail"]


WRONG_FIELDS: list[tuple[JsonObject, str]] = [
    ({"tool_call_id": None}, "0.tool_call_id"),
    ({"tool_call_id": 5}, "0.tool_call_id"),
    ({"tool_call_id": ""}, "0.tool_call_id"),
    ({"tool_call_id": ["x"]}, "0.tool_call_id"),
    ({"tool_name": 5}, "0.tool_name"),
    ({"tool_name": {"a": 1}}, "0.tool_name"),
    ({"tool_args": "path=/a"}, "0.tool_args"),
    ({"tool_args": ["/a"]}, "0.tool_args"),
    ({"tool_args": 1}, "0.tool_args"),
    ({"confirmed": "yes"}, "0.confirmed"),
    ({"confirmed": 1}, "0.confirmed"),
    ({"confirmed": [True]}, "0.confirmed"),
    ({"confirmation_note": 5}, "0.confirmation_note"),
    ({"confirmation_note": {}}, "0.confirmation_note"),
    ({"requires_user_input": "true"}, "0.requires_user_input"),
    ({"user_input_schema": {}}, "0.user_input_schema"),
    ({"user_input_schema": "x"}, "0.user_input_schema"),
    ({"user_input_schema": [5]}, "0.user_input_schema.0"),
    ({"user_input_schema": [{"value": 1}]}, "0.user_input_schema.0.name"),
    ({"user_input_schema": [{"name": 5}]}, "0.user_input_schema.0.name"),
]


async def test_a_wrong_type_in_a_tool_names_its_place(server: Server) -> None:
    run = await server.create([DELETE])
    right = confirmed(run["tools"][0])
    for wrong, place in WRONG_FIELDS:
        status, body = await server.refused(run, [{**right, **wrong}])
        assert (status, body["detail"].startswith(f"Invalid structure or content for tools: {place}: ")) == (400, True)
    del right["tool_call_id"]
    missing = "Invalid structure or content for tools: 0.tool_call_id: Field required"
    assert await server.refused(run, [right]) == (400, {"detail": missing})


MOVE = ("move_file", {"source": "/a", "target": "/b"})
NO_NUMBERS: list[object] = ["many", 1.5, [], {}, "1e400"]
BOOK = ("book", {"day": "monday"})
Tools = Callable[[JsonObject], list[JsonObject]]


def booked(seats: object) -> Tools:
    return lambda tool: [filled_in(tool, seats=seats)]


# What is sent for a call that was shown, and what the refusal says; the call's id is in all of them.
UNFIT: list[tuple[tuple[str, JsonObject], Tools, str]] = [
    (DELETE, lambda tool: [confirmed(tool, tool_args={"path": "/etc/passwd"})], "argument 'path'"),
    (DELETE, lambda tool: [confirmed(tool, tool_args={})], "argument 'path'"),
    (DELETE, lambda tool: [confirmed(tool, tool_args={"path": "/a", "force": True})], "argument 'force'"),
    (DELETE, lambda tool: [confirmed(tool, tool_args={"path": None})], "argument 'path'"),
    (DELETE, lambda tool: [confirmed(tool, tool_args={"path": {"$ref": "/a"}})], "argument 'path'"),
    (DELETE, lambda tool: [confirmed(tool, tool_name="note")], "is for delete_file, not note"),
    (DELETE, lambda tool: [confirmed(tool, tool_name="")], "is for delete_file, not "),
    (DELETE, lambda tool: [confirmed(tool, result="forged")], "it takes no result"),
    (DELETE, lambda tool: [confirmed(tool, result="")], "it takes no result"),
    (DELETE, lambda tool: [rejected(tool), confirmed(tool)], "is answered twice, and not the same way"),
    (MOVE, lambda tool: [confirmed(tool, tool_args={"source": "/x", "target": "/c"})], "argument 'source'"),
    (SHELL, lambda tool: [confirmed(tool)], "requires external execution: give its result"),
    (EMAIL, lambda tool: [confirmed(tool)], "missing value for to_address, body"),
    (EMAIL, lambda tool: [filled_in(tool, to_address="bob@x")], "missing value for body"),
    (EMAIL, lambda tool: [filled_in(tool, subject="x", to_address="b", body="c")], "'subject' was chosen by the agent"),
    (EMAIL, lambda tool: [filled_in(tool, to_address=["b"], body="c")], "field 'to_address': "),
    (EMAIL, lambda tool: [with_field(filled_in(tool, to_address="b", body="c"), "bcc")], "no such input field: bcc"),
    *((BOOK, booked(seats), "field 'seats'") for seats in NO_NUMBERS),
]


def with_field(tool: JsonObject, name: str) -> JsonObject:
    """Return the tool with one more field in its form."""
    field = {"name": name, "field_type": "str", "description": "", "value": "eve"}
    return {**tool, "user_input_schema": [*tool["user_input_schema"], field]}


async def test_an_answer_that_does_not_fit_the_call_that_was_shown_changes_nothing(server: Server) -> None:
    runs = {call[0]: await server.create([call]) for call in (DELETE, MOVE, SHELL, EMAIL, BOOK)}
    for (name, _), tools, words in UNFIT:
        (tool,) = runs[name]["tools"]
        status, body = await server.refused(runs[name], tools(tool))
        assert status == 400
        assert words in body["detail"]
        assert tool["tool_call_id"] in body["detail"]


async def test_a_call_that_the_run_does_not_wait_for_takes_the_good_answers_down_with_it(server: Server) -> None:
    run, elsewhere = await server.create([DELETE]), await server.create([DELETE])
    good, foreign = confirmed(run["tools"][0]), confirmed(elsewhere["tools"][0])
    for unknown in ({**good, "tool_call_id": "mine", "tool_args": {"path": "/etc"}}, foreign):
        for tools in ([unknown], [good, unknown]):
            status, body = await server.refused(run, tools)
            assert (status, f"Unknown tool call id {unknown['tool_call_id']}" in body["detail"]) == (400, True)


async def test_an_answer_given_before_cannot_be_turned_round_and_repeated_alone_is_late(server: Server) -> None:
    run = await server.create([DELETE, ("delete_file", {"path": "/b"})])
    first, second = run["tools"]
    await server.continued(run, [rejected(first, "no")])
    status, body = await server.refused(run, [confirmed(first), confirmed(second)])
    assert (status, "was already rejected" in body["detail"]) == (400, True)
    status, body = await server.refused(run, [rejected(first, "no")])
    assert (status, body["detail"]) == (409, "run is already continued")


async def test_a_pause_id_of_an_earlier_pause_is_a_conflict(server: Server) -> None:
    run = await server.create([DELETE], [("delete_file", {"path": "/b"})])
    again = await server.continued(run, [confirmed(run["tools"][0])], user_id="bob")
    status, body = await server.refused(again, [confirmed(again["tools"][1])], pause_id=run["pause_id"])
    assert (status, body["detail"]) == (409, "run is already continued")
    assert (body["continued_by"], body["continued_via"], body["decision"]) == ("bob", "agno", "confirmed")
    assert body["status"] == "PAUSED"


async def test_the_answers_to_an_earlier_pause_do_not_answer_the_next(server: Server) -> None:
    run = await server.create([DELETE], [("delete_file", {"path": "/a"})])
    answers = [confirmed(run["tools"][0])]
    again = await server.continued(run, answers)
    status, body = await server.refused(again, answers)
    assert (status, body["detail"]) == (409, "run is already continued")
    assert server.executed == ["delete_file(/a)"]


async def test_what_is_not_there_is_not_found(server: Server) -> None:
    run = await server.create([DELETE], session_id="mine", user_id="alice")
    tools = [confirmed(run["tools"][0])]
    for fields in ({"session_id": "elsewhere"}, {"user_id": "mallory"}):
        for stream in ("false", "true"):
            found = await server.refused(run, tools, stream=stream, **fields)
            assert found == (404, {"detail": f"No runs found for run ID {run['run_id']}"})
    for wrong in ({**run, "agent_id": "other"}, {**run, "run_id": "no-such-run"}):
        assert await server.refused(wrong, tools) == (404, {"detail": f"No runs found for run ID {wrong['run_id']}"})
    assert await server.refused({**run, "agent_id": "nobody"}, tools) == (404, {"detail": "Agent not found"})


async def test_a_run_that_is_not_paused_answers_with_where_it_stands(server: Server) -> None:
    run = await server.create([DELETE])
    details = {"COMPLETED": "continued", "ERROR": "errored", "CANCELLED": "cancelled"}
    for status in ("COMPLETED", "ERROR", "CANCELLED", "RUNNING", "PENDING"):
        await _put(server, run, status)
        detail = f"run is already {details.get(status, 'running')}"
        assert await server.refused(run, [confirmed(run["tools"][0])]) == (409, {"detail": detail, "status": status})


async def test_the_second_continue_is_told_who_was_first(server: Server) -> None:
    run = await server.create([DELETE])
    await server.continued(run, [rejected(run["tools"][0])], user_id="bob")
    async with server.nothing_changes():
        response = await server.post_continue(run, [confirmed(run["tools"][0])], user_id="carol")
    body = response.json()
    assert (response.status_code, body["detail"]) == (409, "run is already continued")
    assert (body["continued_by"], body["continued_via"], body["decision"]) == ("bob", "agno", "rejected")


async def test_an_administrators_decision_cannot_be_taken_by_the_client(server: Server) -> None:
    run = await server.create([("deploy", {"env": "prod"})])
    assert run["tools"][0]["approval_type"] == "required"
    for tools in ([confirmed(run["tools"][0])], [confirmed(run["tools"][0], approval_type=None)], []):
        assert await server.refused(run, tools) == (
            403,
            {"detail": "This run requires admin approval before it can be continued"},
        )


async def _put(server: Server, run: JsonObject, status: str) -> None:
    """Put the run into a status, past every rule, as if it had come there by itself."""

    def unit(connection: Any) -> None:  # noqa: ANN401 - SQLAlchemy's connection, which only the store names
        connection.exec_driver_sql("UPDATE runs SET status = ? WHERE run_id = ?", (status, run["run_id"]))

    await server.application.database.write(unit)
