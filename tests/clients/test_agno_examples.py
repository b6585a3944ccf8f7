"""The HTTP flows of Agno's own examples of a human in the loop, step by step against a server process."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

RUNS = "/agents/desk/runs"


def start_run(http: httpx.Client, message: str, session_id: str) -> dict[str, Any]:
    """Run the agent in the session and wait; return the paused run."""
    fields = {"message": message, "session_id": session_id, "stream": "false"}
    response = http.post(RUNS, data=fields)
    response.raise_for_status()
    paused: dict[str, Any] = response.json()
    assert paused["status"] == "PAUSED"
    assert paused["session_id"] == session_id
    return paused


def send_on(http: httpx.Client, paused: dict[str, Any], **fields: str) -> dict[str, Any]:
    """Continue the run in its session and wait; return the completed run."""
    fields |= {"session_id": paused["session_id"], "stream": "false"}
    response = http.post(f"{RUNS}/{paused['run_id']}/continue", data=fields)
    response.raise_for_status()
    continued: dict[str, Any] = response.json()
    assert continued["status"] == "COMPLETED"
    return continued


def confirmed(paused: dict[str, Any]) -> str:
    """Return the tools as they came, confirmed where they ask for it."""
    tools = paused["tools"]
    assert tools
    for tool in tools:
        if tool["requires_confirmation"]:
            tool["confirmed"] = True
    return json.dumps(tools)


@pytest.mark.parametrize("times", [1, 2])
def test_basic_confirms_the_tools_that_the_paused_run_shows(http: httpx.Client, times: int) -> None:
    for number in range(times):
        # The example's session has a fixed name: it works again in the session of its last run.
        paused = start_run(http, f"delete billing-{times}-{number}", f"confirmation-demo-{times}")
        continued = send_on(http, paused, tools=confirmed(paused))

        assert continued["content"] == f"Told: deleted billing-{times}-{number}"
        assert continued["run_id"] == paused["run_id"]


def test_with_approval_record_finds_resolves_and_continues_without_tools(http: httpx.Client) -> None:
    paused = start_run(http, "deploy billing", "approval-record-demo")
    expected = {"run_id": paused["run_id"], "status": "pending", "approval_type": "required"}
    response = http.get("/approvals", params=expected)
    response.raise_for_status()
    (record,) = response.json()["data"]
    assert (record["status"], record["tool_name"], record["tool_args"]) == ("pending", "deploy", {"env": "billing"})
    (requirement,) = record["requirements"]
    assert requirement["tool_execution"]["tool_call_id"] == paused["tools"][0]["tool_call_id"]

    decision = {"status": "approved", "resolved_by": "cookbook-admin"}
    response = http.post(f"/approvals/{record['id']}/resolve", json=decision)
    response.raise_for_status()
    assert response.json()["status"] == "approved"
    assert response.json()["resolved_by"] == "cookbook-admin"

    continued = send_on(http, paused)
    assert continued["content"] == "Told: deployed to billing"
    assert http.get("/approvals", params=expected).json()["data"] == []


def test_audit_record_is_written_with_the_decision(http: httpx.Client) -> None:
    paused = start_run(http, "audited search", "audit-record-demo")
    expected = {"run_id": paused["run_id"], "approval_type": "audit"}
    assert http.get("/approvals", params=expected).json()["data"] == []

    send_on(http, paused, tools=confirmed(paused))
    (record,) = http.get("/approvals", params=expected).json()["data"]
    assert (record["status"], record["tool_name"]) == ("approved", "audited")
