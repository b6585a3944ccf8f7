"""Continues that AgentOS's API refuses: with which words, and that nothing changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.api.exchange import Desk, JsonObject, at_desk, confirmed, filled_in, read_object, rejected

DELETE = ("delete_file", {"path": "/a"})
EMAIL = ("send_email", {"subject": "Hi"})
SHELL = ("run_shell", {"command": "ls"})


@pytest.mark.parametrize(
    ("text", "detail"),
    [
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
    ],
    ids=lambda value: value[:24],
)
async def test_tools_that_are_no_list_of_objects_get_the_texts_of_the_original(
    tmp_path: Path, text: str, detail: str
) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        assert await desk.refused(run, text) == (400, {"detail": detail})


@pytest.mark.parametrize("text", ["", "  ", "null", "[]"])
async def test_saying_nothing_is_no_rejection(tmp_path: Path, text: str) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        status, body = await desk.refused(run, text)
        assert status == 400
        assert run["tools"][0]["tool_call_id"] in body["detail"]
        assert "delete_file" in body["detail"]


async def test_an_echo_without_any_decision_is_no_rejection(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE, EMAIL, SHELL])
        status, body = await desk.refused(run, run["tools"])
        assert status == 400
        for tool in run["tools"]:
            assert tool["tool_call_id"] in body["detail"]


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


@pytest.mark.parametrize(("wrong", "place"), WRONG_FIELDS, ids=lambda value: json.dumps(value)[:40])
async def test_a_wrong_type_in_a_tool_names_its_place(tmp_path: Path, wrong: JsonObject, place: str) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        status, body = await desk.refused(run, [{**confirmed(run["tools"][0]), **wrong}])
        assert status == 400
        assert body["detail"].startswith(f"Invalid structure or content for tools: {place}: ")


async def test_a_tool_without_an_id_is_refused(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        answer = confirmed(run["tools"][0])
        del answer["tool_call_id"]
        status, body = await desk.refused(run, [answer])
        assert (status, body) == (
            400,
            {"detail": "Invalid structure or content for tools: 0.tool_call_id: Field required"},
        )


@pytest.mark.parametrize(
    ("forged", "words"),
    [
        ({"tool_args": {"path": "/etc/passwd"}}, "argument 'path'"),
        ({"tool_args": {}}, "argument 'path'"),
        ({"tool_args": {"path": "/a", "force": True}}, "argument 'force'"),
        ({"tool_args": {"path": None}}, "argument 'path'"),
        ({"tool_args": {"path": {"$ref": "/a"}}}, "argument 'path'"),
        ({"tool_name": "note"}, "is for delete_file, not note"),
        ({"tool_name": ""}, "is for delete_file, not "),
        ({"result": "forged"}, "a result cannot be given for it"),
        ({"result": ""}, "a result cannot be given for it"),
        ({"tool_call_id": "call_of_mine"}, "Unknown tool call id call_of_mine"),
    ],
)
async def test_an_approval_is_only_for_the_call_that_was_shown(tmp_path: Path, forged: JsonObject, words: str) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        status, body = await desk.refused(run, [{**confirmed(run["tools"][0]), **forged}])
        assert status == 400
        assert words in body["detail"]


async def test_an_argument_that_is_not_declared_editable_cannot_be_changed(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([("move_file", {"source": "/a", "target": "/b"})])
        status, body = await desk.refused(run, [confirmed(run["tools"][0], tool_args={"source": "/x", "target": "/c"})])
        assert status == 400
        assert "argument 'source'" in body["detail"]


async def test_an_injected_call_takes_the_good_answers_down_with_it(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        good = confirmed(run["tools"][0])
        injected = {**good, "tool_call_id": "mine", "tool_args": {"path": "/etc"}}
        status, body = await desk.refused(run, [good, injected])
        assert status == 400
        assert "Unknown tool call id mine" in body["detail"]


async def test_a_call_of_another_run_is_unknown_here(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run, elsewhere = await desk.create([DELETE]), await desk.create([DELETE])
        status, body = await desk.refused(run, [confirmed(elsewhere["tools"][0])])
        assert status == 400
        assert elsewhere["tools"][0]["tool_call_id"] in body["detail"]


async def test_a_call_cannot_be_answered_twice_in_one_request(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        (tool,) = run["tools"]
        status, body = await desk.refused(run, [rejected(tool), confirmed(tool)])
        expected = f"Tool call {tool['tool_call_id']} is answered twice, and not the same way"
        assert (status, body["detail"]) == (400, expected)


async def test_an_answer_given_before_cannot_be_turned_round(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE, ("delete_file", {"path": "/b"})])
        first, second = run["tools"]
        await desk.continued(run, [rejected(first, "no")])
        status, body = await desk.refused(run, [confirmed(first), confirmed(second)])
        assert status == 400
        assert "was already rejected" in body["detail"]


async def test_an_answer_given_before_and_repeated_alone_is_late(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE, ("delete_file", {"path": "/b"})])
        await desk.continued(run, [confirmed(run["tools"][0])])
        status, body = await desk.refused(run, [confirmed(run["tools"][0])])
        assert (status, body["detail"]) == (409, "run is already continued")


async def test_a_repeated_key_counts_as_said_last(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        call_id = json.dumps(run["tools"][0]["tool_call_id"])
        text = f'[{{"tool_call_id": {call_id}, "confirmed": true, "confirmed": false}}]'
        assert (await desk.continued(run, text))["status"] == "COMPLETED"
        assert desk.executed == []


async def test_an_external_call_is_not_run_by_confirming_it(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([SHELL])
        (tool,) = run["tools"]
        status, body = await desk.refused(run, [confirmed(tool)])
        assert (status, body["detail"]) == (
            400,
            f"Tool run_shell ({tool['tool_call_id']}) requires external execution: give its result",
        )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"to_address": "bob@x"}, "missing value for body"),
        ({"subject": "Other", "to_address": "b", "body": "c"}, "'subject' was chosen by the agent"),
        ({"to_address": 5, "body": "c"}, "field 'to_address': "),
        ({"to_address": ["b"], "body": "c"}, "field 'to_address': "),
    ],
)
async def test_values_that_do_not_fit_the_form_are_refused(tmp_path: Path, values: JsonObject, words: str) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([EMAIL])
        status, body = await desk.refused(run, [filled_in(run["tools"][0], **values)])
        assert status == 400
        assert words in body["detail"]
        assert run["tools"][0]["tool_call_id"] in body["detail"]


async def test_a_field_that_the_form_does_not_have_is_refused(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([EMAIL])
        tool = filled_in(run["tools"][0], to_address="b", body="c")
        tool["user_input_schema"].append({"name": "bcc", "field_type": "str", "description": "", "value": "eve"})
        status, body = await desk.refused(run, [tool])
        assert status == 400
        assert "no such input field: bcc" in body["detail"]


@pytest.mark.parametrize("seats", ["many", 1.5, [], {}, "1e400"])
async def test_a_value_of_the_wrong_type_is_refused(tmp_path: Path, seats: object) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([("book", {"day": "monday"})])
        status, body = await desk.refused(run, [filled_in(run["tools"][0], seats=seats)])
        assert status == 400
        assert "field 'seats'" in body["detail"]


async def test_a_confirmation_alone_does_not_fill_in_a_form(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([EMAIL])
        status, body = await desk.refused(run, [confirmed(run["tools"][0])])
        assert status == 400
        assert "missing value for to_address, body" in body["detail"]


async def test_a_pause_id_of_an_earlier_pause_is_a_conflict(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE], [("delete_file", {"path": "/b"})])
        again = await desk.continued(run, [confirmed(run["tools"][0])], user_id="bob")
        status, body = await desk.refused(again, [confirmed(again["tools"][1])], pause_id=run["pause_id"])
        assert (status, body["detail"]) == (409, "run is already continued")
        assert (body["continued_by"], body["continued_via"], body["decision"]) == ("bob", "agno", "confirmed")
        assert body["status"] == "PAUSED"


async def test_the_answers_to_an_earlier_pause_do_not_answer_the_next(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE], [("delete_file", {"path": "/a"})])
        answers = [confirmed(run["tools"][0])]
        again = await desk.continued(run, answers)
        status, body = await desk.refused(again, answers)
        assert (status, body["detail"]) == (409, "run is already continued")
        assert desk.executed == ["delete_file(/a)"]


@pytest.mark.parametrize("fields", [{"session_id": "elsewhere"}, {"user_id": "mallory"}])
async def test_a_run_is_not_found_in_anothers_name(tmp_path: Path, fields: dict[str, str]) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE], session_id="mine", user_id="alice")
        for stream in ("false", "true"):
            found = await desk.refused(run, [confirmed(run["tools"][0])], **{**fields, "stream": stream})
            assert found == (404, {"detail": f"No runs found for run ID {run['run_id']}"})


async def test_an_unknown_run_and_a_run_of_another_agent_are_not_found(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        for wrong in ({**run, "agent_id": "other"}, {**run, "run_id": "no-such-run"}):
            async with desk.nothing_changes(run):
                response = await desk.post_continue(wrong, [confirmed(run["tools"][0])])
            assert response.status_code == 404
            assert response.json() == {"detail": f"No runs found for run ID {wrong['run_id']}"}


async def test_an_unknown_agent_is_not_found(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        async with desk.nothing_changes(run):
            response = await desk.post_continue({**run, "agent_id": "nobody"}, [confirmed(run["tools"][0])])
        assert (response.status_code, response.json()) == (404, {"detail": "Agent not found"})


@pytest.mark.parametrize(
    ("status", "detail"),
    [
        ("COMPLETED", "run is already continued"),
        ("ERROR", "run is already errored"),
        ("CANCELLED", "run is already cancelled"),
        ("RUNNING", "run is already running"),
        ("PENDING", "run is already running"),
    ],
)
async def test_a_run_that_is_not_paused_answers_with_where_it_stands(tmp_path: Path, status: str, detail: str) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        await _put(desk, run, status)
        async with desk.nothing_changes(run, status):
            response = await desk.post_continue(run, [confirmed(run["tools"][0])])
        assert response.status_code == 409
        assert response.json() == {"detail": detail, "status": status}


async def test_the_second_continue_is_told_who_was_first(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        await desk.continued(run, [rejected(run["tools"][0])], user_id="bob")
        async with desk.nothing_changes(run, "COMPLETED"):
            response = await desk.post_continue(run, [confirmed(run["tools"][0])], user_id="carol")
        body = read_object(response)
        assert (response.status_code, body["detail"]) == (409, "run is already continued")
        assert (body["continued_by"], body["continued_via"], body["decision"]) == ("bob", "agno", "rejected")


async def test_an_administrators_decision_cannot_be_taken_by_the_client(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([("deploy", {"env": "prod"})])
        assert run["tools"][0]["approval_type"] == "required"
        for tools in ([confirmed(run["tools"][0])], [confirmed(run["tools"][0], approval_type=None)], []):
            assert await desk.refused(run, tools) == (
                403,
                {"detail": "This run requires admin approval before it can be continued"},
            )


async def _put(desk: Desk, run: JsonObject, status: str) -> None:
    """Put the run into a status, past every rule, as if it had come there by itself."""

    def unit(connection: Any) -> None:  # noqa: ANN401 - SQLAlchemy's connection, which only the store names
        connection.exec_driver_sql("UPDATE runs SET status = ? WHERE run_id = ?", (status, run["run_id"]))

    await desk.application.database.write(unit)
