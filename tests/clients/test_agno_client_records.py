"""Agno's own client of two versions: approvals, sessions and what the server says of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import pytest

from tests.support.scenario_process import AgnoClient

# The first test of a version installs it.
pytestmark = pytest.mark.timeout(600)

Calls: TypeAlias = Callable[[], list[str]]


class TestApprovals:
    def test_an_approved_call_runs_when_the_user_continues_without_tools(
        self, client: AgnoClient, calls: Calls, name: str
    ) -> None:
        found = client.run("approving.decide", message=f"deploy {name}", status="approved")

        (tool,) = found["paused"]["tools"]
        (listed,) = found["listed"]["data"]
        assert (tool["approval_type"], tool["approval_id"]) == ("required", listed["id"])
        assert (listed["status"], listed["tool_name"], listed["tool_args"]) == ("pending", "deploy", {"env": name})
        assert (listed["user_id"], listed["run_status"]) == ("alice", "PAUSED")
        assert (found["resolved"]["status"], found["resolved"]["resolved_by"]) == ("approved", "root")
        assert (found["ended"]["status"], found["ended"]["content"]) == ("COMPLETED", f"Told: deployed to {name}")
        assert (found["after"]["status"], found["after"]["run_status"]) == ("approved", "COMPLETED")
        assert calls() == ["deployed to NAME"]

    def test_a_rejected_call_does_not_run(self, client: AgnoClient, calls: Calls, name: str) -> None:
        found = client.run("approving.decide", message=f"deploy {name}", status="rejected")

        assert found["ended"]["status"] == "COMPLETED"
        assert found["ended"]["tools"][0]["confirmed"] is False
        assert found["after"]["status"] == "rejected"
        assert calls() == []

    def test_a_user_cannot_decide_what_an_administrator_has_not(
        self, client: AgnoClient, calls: Calls, name: str
    ) -> None:
        found = client.run("approving.overrule", message=f"deploy {name}", status=None)

        detail = "This run requires admin approval before it can be continued"
        assert (found["refused"], found["body"]["detail"]) == (403, detail)
        assert calls() == []

    def test_a_user_cannot_overrule_an_administrator(self, client: AgnoClient, calls: Calls, name: str) -> None:
        found = client.run("approving.overrule", message=f"deploy {name}", status="rejected")

        assert found["ended"]["tools"][0]["confirmed"] is False
        assert calls() == []

    def test_an_audited_decision_of_the_user_is_recorded(self, client: AgnoClient, calls: Calls, name: str) -> None:
        found = client.run("approving.audited", message=f"audited {name}")

        assert found["before"] == []
        assert found["ended"]["content"] == f"Told: did {name}"
        (record,) = found["after"]
        assert (record["status"], record["approval_type"], record["resolved_by"]) == ("approved", "audit", "alice")
        assert calls() == ["did NAME"]


class TestSessions:
    def test_a_session_and_its_runs_are_read_back(self, client: AgnoClient, name: str) -> None:
        found = client.run("sessions.read", session_id=name, user_id=f"user-{name}")

        first, second = found["made"]
        assert (found["listed"], found["meta"]["total_count"]) == ([name], 1)
        assert found["entry"]["session_name"] == "say hello"
        session = found["session"]
        assert (session["session_id"], session["agent_id"], session["user_id"]) == (name, "desk", f"user-{name}")
        assert [entry["content"] for entry in session["chat_history"][:3]] == ["say hello", "hello", f"delete {name}"]
        runs = [(run["run_id"], run["status"], run["run_input"]) for run in found["runs"]]
        assert runs == [(first, "COMPLETED", "say hello"), (second, "PAUSED", f"delete {name}")]
        assert found["run"] == found["runs"][1]
        assert found["run"]["tools"][0]["tool_name"] == "delete_file"

    def test_sessions_come_in_pages(self, client: AgnoClient, name: str) -> None:
        found = client.run("sessions.page", user_id=name, count=5)

        made = found["made"]
        assert found["pages"] == [made[:2], made[2:4], made[4:]]
        assert (found["meta"]["total_count"], found["meta"]["total_pages"], found["meta"]["limit"]) == (5, 3, 2)

    def test_a_session_is_made_renamed_and_updated(self, client: AgnoClient, name: str) -> None:
        found = client.run("sessions.change", session_id=name, new_name=f"second {name}")

        assert (found["made"]["session_name"], found["made"]["session_state"]) == ("first", {"a": 1})
        assert found["renamed"]["session_name"] == found["read"]["session_name"] == f"second {name}"
        assert found["updated"]["metadata"] == found["read"]["metadata"] == {"team": "x"}
        assert found["updated"]["session_state"] == found["read"]["session_state"] == {"a": 2}
        sent = [entry["content"] for entry in found["read"]["chat_history"]]
        assert sent == ["say hello", "hello"]
        assert [entry["content"] for entry in found["renamed"]["chat_history"]] == sent
        assert [entry["content"] for entry in found["updated"]["chat_history"]] == sent
        assert found["named"] == [name]

    def test_a_deleted_session_is_gone_with_its_runs(self, client: AgnoClient, name: str) -> None:
        found = client.run("sessions.delete", session_id=name)

        assert found["session"] == [404, f"Agent Session with id '{name}' not found"]
        assert found["runs"] == [404, f"Session with ID {name} not found"]
        assert found["run"][0] == 404

    def test_several_sessions_are_deleted_at_once(self, client: AgnoClient, name: str) -> None:
        found = client.run("sessions.delete_several", user_id=name)

        assert (len(found["before"]), found["after"]) == (3, [found["kept"]])

    def test_runs_are_read_by_the_time_they_were_made(self, client: AgnoClient, name: str) -> None:
        found = client.run("sessions.read_by_time", session_id=name)

        assert (found["since then"], found["until then"]) == ([found["run"]], [found["run"]])
        assert (found["later"], found["earlier"]) == ([], [])

    def test_a_session_of_somebody_else_is_not_found(self, client: AgnoClient, name: str) -> None:
        found = client.run("sessions.read_as_somebody_else", session_id=name)

        # To remove what is not there succeeds, and removes nothing.
        there = {"delete": 200, "of alice": 200}
        assert {what: status for what, (status, _) in found.items()} == {**dict.fromkeys(found, 404), **there}


class TestDescription:
    def test_the_configuration_and_the_agents_are_understood(self, client: AgnoClient) -> None:
        found = client.run("describing.everything")

        config = found["config"]
        assert (config["os_id"], config["databases"]) == ("unpause", ["unpause"])
        assert [agent["id"] for agent in config["agents"]] == ["desk", "other"]
        assert found["agents"] == [["desk", "desk", "unpause"], ["other", "other", "unpause"]]
        assert (found["teams"], found["workflows"]) == ([], [])
        assert found["agent"]["model"] == {"name": "script-1", "model": "script-1", "provider": "function"}
        tools = {tool["name"]: tool for tool in found["agent"]["tools"]["tools"]}
        assert tools["delete_file"]["requires_confirmation"]
        assert tools["run_shell"]["external_execution"]
        assert tools["deploy"]["approval_type"] == "required"
        assert list(tools["send_email"]["parameters"]["properties"]) == ["subject"]

    def test_the_older_client_can_ask_for_the_models(self, client: AgnoClient) -> None:
        if client.version != "2.5.6":
            # The newer client lost the method.
            assert not client.run("describing.can_ask_for_models")
            return
        assert client.run("describing.models") == [{"id": "script-1", "provider": "function"}]
