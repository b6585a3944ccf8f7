"""Answers that a paused run takes through AgentOS's API, and what becomes of the run."""

from __future__ import annotations

import json

import pytest

from tests.contract.replaying import read_events
from tests.support.caller import confirmed, filled_in, path_of, rejected
from tests.support.server import Server
from tests.support.toolbox import plan

DELETE = ("delete_file", {"path": "/a"})
EMAIL = ("send_email", {"subject": "Hi"})
SHELL = ("run_shell", {"command": "ls"})


async def test_a_run_without_paused_tools_completes_in_its_create(server: Server) -> None:
    run = await server.create([("note", {"text": "x"})], session_id="s1", user_id="alice")
    assert (run["status"], run["session_id"], run["user_id"]) == ("COMPLETED", "s1", "alice")
    assert run["content"] == "Done. note: did note(x)."
    assert server.executed == ["note(x)"]


async def test_a_run_read_back_is_the_run_that_create_answered(server: Server) -> None:
    run = await server.create([DELETE])
    stored = await server.read(run)
    assert stored == {**run, "events": []}


async def test_a_confirmed_call_runs_once_and_the_model_reads_its_result(server: Server) -> None:
    run = await server.create([DELETE])
    assert server.executed == []
    done = await server.continued(run, [confirmed(run["tools"][0])], session_id=run["session_id"])
    assert (done["status"], done["content"]) == ("COMPLETED", "Done. delete_file: did delete_file(/a).")
    assert server.executed == ["delete_file(/a)"]
    (tool,) = done["tools"]
    assert (tool["requires_confirmation"], tool["confirmed"], tool["result"]) == (
        False,
        True,
        "did delete_file(/a)",
    )
    assert "pause_id" not in done


async def test_a_rejected_call_does_not_run_and_the_model_reads_the_note(server: Server) -> None:
    run = await server.create([DELETE])
    done = await server.continued(run, [rejected(run["tools"][0], "too risky")])
    assert (done["status"], done["content"]) == ("COMPLETED", "Done. delete_file: too risky.")
    assert server.executed == []
    (tool,) = done["tools"]
    assert (tool["confirmed"], tool["confirmation_note"], tool["tool_call_error"], tool["result"]) == (
        False,
        "too risky",
        True,
        None,
    )


async def test_a_rejection_without_a_note_has_the_words_of_the_original(server: Server) -> None:
    run = await server.create([DELETE])
    done = await server.continued(run, [rejected(run["tools"][0])])
    assert done["content"] == "Done. delete_file: Function call was rejected by the user."
    assert done["tools"][0]["confirmation_note"] == "Tool call was rejected"


async def test_values_of_the_user_become_arguments_of_the_call(server: Server) -> None:
    run = await server.create([EMAIL])
    (tool,) = run["tools"]
    assert [(item["name"], item["value"]) for item in tool["user_input_schema"]] == [
        ("subject", "Hi"),
        ("to_address", None),
        ("body", None),
    ]
    done = await server.continued(run, [filled_in(tool, to_address="bob@x.org", body="hello")])
    assert server.executed == ["send_email(Hi, bob@x.org, hello)"]
    (tool,) = done["tools"]
    assert (tool["answered"], tool["requires_user_input"]) == (True, False)
    assert tool["tool_args"] == {"subject": "Hi", "to_address": "bob@x.org", "body": "hello"}


async def test_values_sent_as_text_are_read_as_the_type_of_their_field(server: Server) -> None:
    run = await server.create([("book", {"day": "monday"})])
    types = {item["name"]: item["field_type"] for item in run["tools"][0]["user_input_schema"]}
    assert types == {"day": "str", "seats": "int", "quiet": "bool"}
    await server.continued(run, [filled_in(run["tools"][0], seats="4", quiet="true")])
    assert server.executed == ["book(monday, 4, True)"]


async def test_a_field_that_is_not_required_may_be_left_out(server: Server) -> None:
    run = await server.create([("book", {"day": "monday"})])
    done = await server.continued(run, [filled_in(run["tools"][0], seats=2)])
    assert done["status"] == "COMPLETED"
    assert server.executed == ["book(monday, 2, False)"]


async def test_a_call_that_waits_for_values_can_be_rejected(server: Server) -> None:
    run = await server.create([EMAIL])
    done = await server.continued(run, [rejected(run["tools"][0], "not now")])
    assert (done["content"], server.executed) == ("Done. send_email: not now.", [])


async def test_an_external_result_is_given_to_the_model(server: Server) -> None:
    cases: list[tuple[object, str]] = [
        ("file1\nfile2", "file1\nfile2"),
        ("", ""),
        ({"files": ["a", "ü"]}, '{"files":["a","ü"]}'),
        ([1, 2], "[1,2]"),
        (0, "0"),
        (False, "false"),
        ([10**4000], f"[1{'0' * 4000}]"),
    ]
    for result, read in cases:
        run = await server.create([SHELL])
        done = await server.continued(run, [{**run["tools"][0], "result": result}])
        assert (done["status"], done["content"]) == ("COMPLETED", f"Done. run_shell: {read}.")
        assert (done["tools"][0]["result"], done["tools"][0]["external_execution_required"]) == (read, False)


async def test_an_external_call_can_be_rejected(server: Server) -> None:
    run = await server.create([SHELL])
    done = await server.continued(run, [rejected(run["tools"][0], "I will not run that")])
    assert done["content"] == "Done. run_shell: I will not run that."


async def test_several_calls_are_answered_at_once_each_in_its_own_way(server: Server) -> None:
    run = await server.create([DELETE, ("delete_file", {"path": "/b"}), EMAIL, SHELL])
    first, second, email, shell = run["tools"]
    answers = [
        {**shell, "result": "listing"},
        confirmed(first),
        filled_in(email, to_address="b@x", body="yo"),
        rejected(second, "keep b"),
    ]
    done = await server.continued(run, answers)
    assert done["status"] == "COMPLETED"
    assert sorted(server.executed) == ["delete_file(/a)", "send_email(Hi, b@x, yo)"]
    for words in ("did delete_file(/a)", "keep b", "did send_email(Hi, b@x, yo)", "listing"):
        assert words in done["content"]


async def test_partial_answers_are_kept_and_the_run_waits_for_the_rest(server: Server) -> None:
    run = await server.create([DELETE, ("delete_file", {"path": "/b"}), SHELL])
    first, second, shell = run["tools"]
    partly = await server.continued(run, [confirmed(first), second, shell])
    assert (partly["status"], partly["pause_id"]) == ("PAUSED", run["pause_id"])
    assert [tool["confirmed"] for tool in partly["tools"]] == [True, None, None]
    assert server.executed == []
    more = await server.continued(run, [{"tool_call_id": shell["tool_call_id"], "result": "ok"}])
    assert more["status"] == "PAUSED"
    done = await server.continued(run, [confirmed(first), rejected(second), {**shell, "result": None}])
    assert done["status"] == "COMPLETED"
    assert server.executed == ["delete_file(/a)"]


async def test_an_echo_of_a_settled_call_goes_along_with_the_answer_to_the_next(server: Server) -> None:
    run = await server.create([DELETE], [("delete_file", {"path": "/b"})])
    again = await server.continued(run, [confirmed(run["tools"][0])])
    assert again["status"] == "PAUSED"
    assert again["pause_id"] != run["pause_id"]
    done = await server.continued(again, [again["tools"][0], confirmed(again["tools"][1])])
    assert done["status"] == "COMPLETED"
    assert server.executed == ["delete_file(/a)", "delete_file(/b)"]


async def test_only_the_id_and_the_decision_are_an_answer(server: Server) -> None:
    run = await server.create([DELETE])
    short = [{"tool_call_id": run["tools"][0]["tool_call_id"], "confirmed": True}]
    assert (await server.continued(run, short))["status"] == "COMPLETED"


async def test_the_right_pause_id_is_accepted(server: Server) -> None:
    run = await server.create([DELETE])
    done = await server.continued(run, [confirmed(run["tools"][0])], pause_id=run["pause_id"])
    assert done["status"] == "COMPLETED"


async def test_an_editable_argument_may_be_changed_when_confirming(server: Server) -> None:
    run = await server.create([("move_file", {"source": "/a", "target": "/b"})])
    changed = confirmed(run["tools"][0], tool_args={"source": "/a", "target": "/c"})
    done = await server.continued(run, [changed])
    assert server.executed == ["move_file(/a, /c)"]
    assert done["tools"][0]["tool_args"] == {"source": "/a", "target": "/c"}


@pytest.mark.parametrize("kind", ["urlencoded", "multipart"])
async def test_both_kinds_of_form_are_read(server: Server, kind: str) -> None:
    form = {"message": plan([DELETE]), "stream": "false", "session_id": "ünïcödé"}
    url = "/agents/toolbox/runs"
    multipart = kind == "multipart"
    parts = {name: (None, value) for name, value in form.items()}
    response = await (server.client.post(url, files=parts) if multipart else server.client.post(url, data=form))
    run = response.json()
    assert (run["status"], run["session_id"]) == ("PAUSED", "ünïcödé")
    form = {"tools": json.dumps([confirmed(run["tools"][0])]), "stream": "false", "session_id": "ünïcödé"}
    url = f"/agents/toolbox/runs/{run['run_id']}/continue"
    parts = {name: (None, value) for name, value in form.items()}
    response = await (server.client.post(url, files=parts) if multipart else server.client.post(url, data=form))
    assert response.json()["status"] == "COMPLETED"
    assert server.executed == ["delete_file(/a)"]


async def test_a_streamed_continue_tells_what_happened_in_the_captured_order(server: Server) -> None:
    run = await server.create([DELETE])
    response = await server.post_continue(run, [confirmed(run["tools"][0])], stream="true")
    assert response.headers["content-type"].startswith("text/event-stream")
    names = [event["event"] for event in read_events(response.text)]
    assert [name for index, name in enumerate(names) if name != names[index - 1]] == [
        "RunContinued",
        "ToolCallStarted",
        "ToolCallCompleted",
        "ModelRequestStarted",
        "RunContent",
        "ModelRequestCompleted",
        "RunContentCompleted",
        "RunCompleted",
    ]


async def test_a_streamed_partial_answer_ends_with_what_is_still_open(server: Server) -> None:
    run = await server.create([DELETE, ("delete_file", {"path": "/b"})])
    response = await server.post_continue(run, [confirmed(run["tools"][0])], stream="true")
    (event,) = read_events(response.text)
    assert (event["event"], event["pause_id"]) == ("RunPaused", run["pause_id"])
    assert [tool["confirmed"] for tool in event["tools"]] == [True, None]


async def test_the_user_who_made_the_run_may_continue_it(server: Server) -> None:
    run = await server.create([DELETE], user_id="alice")
    done = await server.continued(run, [confirmed(run["tools"][0])], user_id="alice")
    assert done["status"] == "COMPLETED"


async def test_a_continue_in_the_background_is_answered_at_once_unless_it_sends_stream(server: Server) -> None:
    for stream in ({}, {"stream": "false"}):
        run = await server.create([DELETE])
        form = {"tools": json.dumps([confirmed(run["tools"][0])]), "background": "true", **stream}
        answer = await server.client.post(f"{path_of(run)}/continue", data=form)
        ids = {"run_id": run["run_id"], "session_id": run["session_id"]}
        assert (answer.status_code, answer.json()) == (202, {**ids, "status": "PENDING"})
        assert (await server.settled(run))["status"] == "COMPLETED"
    run = await server.create([DELETE])
    both = await server.post_continue(run, [confirmed(run["tools"][0])], background="true", stream="true")
    assert "event: RunCompleted" in both.text
