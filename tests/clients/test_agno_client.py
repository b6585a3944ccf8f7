"""Agno's own client of two versions against a server process: what it does and what it makes of the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from tests.support.scenario_process import AgnoClient

# The first test of a version installs it.
pytestmark = pytest.mark.timeout(600)

Calls: TypeAlias = Callable[[], list[str]]

PLAIN = ["RunStarted", "ModelRequestStarted", "RunContent", "ModelRequestCompleted", "RunContentCompleted"]
LAST_ANSWER = [*PLAIN[1:], "RunCompleted"]


def decisions(run: dict[str, Any]) -> list[tuple[str, bool | None, str | None]]:
    """Return of each tool of the run its name, whether it was confirmed, and its result."""
    return [(tool["tool_name"], tool["confirmed"], tool["result"]) for tool in run["tools"]]


class TestRunning:
    def test_a_plain_run_is_completed_with_its_answer(self, client: AgnoClient, name: str) -> None:
        run = client.run("running.plain", message="say héllo ☃", session_id=name)

        assert (run["status"], run["content"], run["is_paused"]) == ("COMPLETED", "héllo ☃", False)
        assert (run["agent_id"], run["session_id"], run["user_id"]) == ("desk", name, "alice")
        assert run["messages"] == [["user", "say héllo ☃"], ["assistant", "héllo ☃"]]
        assert run["input"] == "say héllo ☃"
        assert run["model"] == "script-1"

    def test_state_and_metadata_arrive_as_objects(self, client: AgnoClient, name: str) -> None:
        found = client.run("running.with_objects", session_id=name)

        assert found["run"]["status"] == "COMPLETED"
        assert found["session_state"] == {"color": "green"}
        assert found["metadata"] == {"a": 1}

    def test_a_stream_is_understood_event_by_event(self, client: AgnoClient, name: str) -> None:
        text = 'a {brace, a "quote",\na line, ☃'
        found = client.run("running.streamed", message=f"say {text}", session_id=name)

        assert found["names"] == [*PLAIN, "RunCompleted"]
        assert found["pieces"] > 1
        assert found["text"] == found["content"] == text
        assert (found["session_ids"], found["agent_ids"], len(found["run_ids"])) == ([name], ["desk"], 1)

    def test_a_free_tool_is_shown_in_the_stream(self, client: AgnoClient, name: str) -> None:
        found = client.run("running.streamed", message="add", session_id=name)

        assert found["tools"] == [["ToolCallStarted", "add", None], ["ToolCallCompleted", "add", "5"]]
        assert found["content"] == "Told: 5"

    def test_a_background_run_is_pending(self, client: AgnoClient, name: str) -> None:
        run = client.run("running.in_background", session_id=name)

        assert (run["status"], run["session_id"], run["is_paused"]) == ("PENDING", name, False)
        assert run["run_id"]

    def test_a_failing_model_ends_the_run_as_error(self, client: AgnoClient) -> None:
        found = client.run("failing.failing_model")

        assert (found["status"], found["last"]) == ("ERROR", "RunError")
        assert found["content"] == found["said"] == "the model is out of order"


class TestDeciding:
    def test_a_confirmed_call_runs_once(self, client: AgnoClient, calls: Calls, name: str) -> None:
        found = client.run("deciding.confirm", message=f"delete {name}")

        paused, ended = found["paused"], found["ended"]
        assert (paused["status"], paused["is_paused"]) == ("PAUSED", True)
        assert [requirement["needs_confirmation"] for requirement in paused["requirements"]] == [True]
        assert decisions(paused) == [("delete_file", None, None)]
        assert (ended["status"], ended["content"]) == ("COMPLETED", f"Told: deleted {name}")
        assert decisions(ended) == [("delete_file", True, f"deleted {name}")]
        assert [requirement["is_resolved"] for requirement in ended["requirements"]] == [True]
        assert (ended["run_id"], ended["open"]) == (paused["run_id"], [])
        assert calls() == ["deleted NAME"]

    def test_tools_confirmed_without_the_requirements_run(self, client: AgnoClient, calls: Calls, name: str) -> None:
        ended = client.run("deciding.confirm_on_the_tools", message=f"both {name}")

        assert ended["content"] == f"Told: deleted {name}-1 | deleted {name}-2"
        assert sorted(calls()) == ["deleted NAME-1", "deleted NAME-2"]

    def test_a_pause_in_a_stream_is_confirmed_in_a_stream(self, client: AgnoClient, name: str) -> None:
        found = client.run("deciding.confirm_in_streams", message=f"mixed {name}")

        tool = ["ToolCallStarted", "ToolCallCompleted"]
        requested = ["ModelRequestStarted", "ModelRequestCompleted"]
        assert found["first"] == ["RunStarted", *requested, *tool, "RunContentCompleted", "RunPaused"]
        assert found["is_paused"]
        assert [(item["tool"], item["needs_confirmation"]) for item in found["requirements"]] == [("delete_file", True)]
        assert found["second"] == ["RunContinued", *tool, *LAST_ANSWER]
        assert found["results"] == [f"deleted {name}"]
        assert found["text"] == found["content"] == f"Told: 2 | deleted {name}"

    def test_a_confirmed_call_that_raises_is_an_error_of_the_tool_only(self, client: AgnoClient, name: str) -> None:
        found = client.run("deciding.confirm_in_streams", message=f"broken {name}")

        tool = ["ToolCallStarted", "ToolCallCompleted", "ToolCallError"]
        assert found["second"] == ["RunContinued", *tool, *LAST_ANSWER]
        assert found["errors"] == [f"no disk for {name}"]

    @pytest.mark.parametrize(
        ("note", "reported"), [("too risky", "too risky"), (None, "Function call was rejected by the user")]
    )
    def test_a_rejected_call_does_not_run_and_the_model_is_told_why(
        self, client: AgnoClient, calls: Calls, name: str, note: str | None, reported: str
    ) -> None:
        ended = client.run("deciding.reject", message=f"delete {name}", note=note)

        assert (ended["status"], ended["content"]) == ("COMPLETED", f"Told: {reported}")
        assert decisions(ended) == [("delete_file", False, None)]
        assert ended["tools"][0]["confirmation_note"] == (note or "Tool call was rejected")
        assert ended["requirements"][0]["confirmation"] is False
        assert calls() == []

    def test_one_call_is_confirmed_and_another_rejected(self, client: AgnoClient, calls: Calls, name: str) -> None:
        ended = client.run("deciding.confirm_one_reject_one", message=f"both {name}")

        assert ended["content"] == f"Told: deleted {name}-1 | not this one"
        assert [confirmed for _, confirmed, _ in decisions(ended)] == [True, False]
        assert calls() == ["deleted NAME-1"]

    def test_a_partial_answer_is_kept_and_the_rest_stays_open(
        self, client: AgnoClient, calls: Calls, name: str
    ) -> None:
        found = client.run("deciding.one_after_the_other", message=f"both {name}")

        between = found["between"]
        assert (between["status"], between["is_paused"]) == ("PAUSED", True)
        assert between["open"] == [between["tools"][0]["tool_call_id"]]
        assert [item["is_resolved"] for item in between["requirements"]] == [False, True]
        assert found["ended"]["content"] == f"Told: deleted {name}-1 | deleted {name}-2"
        assert sorted(calls()) == ["deleted NAME-1", "deleted NAME-2"]

    def test_a_run_pauses_several_times(self, client: AgnoClient, calls: Calls, name: str) -> None:
        found = client.run("deciding.several_pauses", message=f"chain {name}")

        first, second = found["paused"]
        assert decisions(first) == [("delete_file", None, None)]
        assert decisions(second) == [("delete_file", True, f"deleted {name}-1"), ("delete_file", None, None)]
        assert second["open"] == [second["tools"][1]["tool_call_id"]]
        assert found["ended"]["content"] == f"Told: deleted {name}-1 | deleted {name}-2"
        assert calls() == ["deleted NAME-1", "deleted NAME-2"]

    def test_values_are_provided_through_the_requirement(self, client: AgnoClient, calls: Calls, name: str) -> None:
        values = {"to_address": "bob@x.org", "copies": 2}
        found = client.run("deciding.fill_in", message=f"mail {name}", values=values)

        paused, ended = found["paused"], found["ended"]
        assert [item["needs_user_input"] for item in paused["requirements"]] == [True]
        fields = [(field["name"], field["field_type"], field["value"]) for field in _schema(paused)]
        assert fields == [("subject", "str", name), ("to_address", "str", None), ("copies", "int", None)]
        assert found["answered"]
        assert ended["content"] == f"Told: sent {name} to bob@x.org 2 times"
        assert ended["tools"][0]["tool_args"] == {"subject": name, **values}
        assert [field["value"] for field in _schema(ended)] == [name, "bob@x.org", 2]
        assert [item["is_resolved"] for item in ended["requirements"]] == [True]
        assert calls() == ["sent NAME to bob@x.org 2 times"]

    def test_values_are_written_into_the_fields_of_the_tool(self, client: AgnoClient, name: str) -> None:
        values = {"to_address": "eve@x.org", "copies": 1}
        ended = client.run("deciding.fill_in_the_schema", message=f"mail {name}", values=values)

        assert ended["content"] == f"Told: sent {name} to eve@x.org 1 times"

    def test_an_external_result_is_what_the_model_is_told(self, client: AgnoClient, name: str) -> None:
        found = client.run("deciding.give_result", message=f"shell {name}", result="file1\nfile2 ☃")

        paused, ended = found["paused"], found["ended"]
        assert [item["needs_external_execution"] for item in paused["requirements"]] == [True]
        assert paused["tools"][0]["tool_args"] == {"command": f"ls {name}"}
        assert (ended["status"], ended["content"]) == ("COMPLETED", "Told: file1\nfile2 ☃")
        assert decisions(ended) == [("run_shell", None, "file1\nfile2 ☃")]
        assert [item["is_resolved"] for item in ended["requirements"]] == [True]


class TestCancelling:
    def test_a_cancelled_stream_ends_with_its_cancellation(self, client: AgnoClient) -> None:
        found = client.run("cancelling.while_it_streams")

        assert found["names"] == ["RunStarted", "ModelRequestStarted", "RunContent", "RunCancelled"]
        assert found["reason"] == f"Run {found['run_id']} was cancelled"
        assert found["status"] == "CANCELLED"

    def test_a_cancelled_pause_cannot_be_continued(self, client: AgnoClient, calls: Calls, name: str) -> None:
        found = client.run("cancelling.while_it_is_paused", path=name)

        assert found["status"] == "CANCELLED"
        error, status, body = found["refused"]
        assert (error, status, body["detail"]) == ("HTTPStatusError", 409, "run is already cancelled")
        assert calls() == []


class TestRefusals:
    def test_what_is_not_there_raises_not_found(self, client: AgnoClient) -> None:
        found = client.run("failing.unknown_things")

        no_message = found.pop("send no message")
        assert no_message[:2] == ["HTTPStatusError", 422]
        assert {(error, status) for error, status, _ in found.values()} == {("HTTPStatusError", 404)}
        details = {what: detail for what, (_, _, detail) in found.items()}
        assert details["run an unknown agent"] == details["cancel of an unknown agent"] == "Agent not found"
        assert details["continue an unknown run"].startswith("No runs found for run ID ")
        assert details["cancel an unknown run"] == "Run not found"
        assert details["read an unknown session"] == "Agent Session with id 'nowhere' not found"

    def test_a_second_continue_raises_a_conflict(self, client: AgnoClient, calls: Calls, name: str) -> None:
        found = client.run("failing.too_late", message=f"delete {name}")

        assert found["ended"] == "COMPLETED"
        assert found["again"] == ["HTTPStatusError", 409, "run is already continued"]
        assert found["streamed"] == ["HTTPStatusError", 409, None]
        assert calls() == ["deleted NAME"]

    @pytest.mark.parametrize(
        ("scenario", "message", "named"),
        [
            ("failing.nothing_said", "delete", "needs confirmation"),
            ("failing.tampered", "delete", "argument 'path' is not the one that was shown"),
            ("failing.no_values", "mail", "missing value for copies"),
        ],
    )
    def test_an_answer_that_does_not_fit_leaves_the_run_paused(
        self, client: AgnoClient, calls: Calls, name: str, scenario: str, message: str, named: str
    ) -> None:
        found = client.run(scenario, message=f"{message} {name}")

        error, status, detail = found["raised"]
        assert (error, status, found["status"]) == ("HTTPStatusError", 400, "PAUSED")
        assert named in detail
        assert calls() == []


def _schema(run: dict[str, Any]) -> list[dict[str, Any]]:
    fields: list[dict[str, Any]] = run["tools"][0]["user_input_schema"]
    return fields
