"""The log of a run as Codegen shows it: its entries, its order and its pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent

from tests.support.agents import Call, ScriptedModel, Thought, Turn
from tests.support.caller import CODEGEN, confirmed, rejected
from tests.support.server import Server, served
from tests.support.toolbox import JsonObject, plan

DELETE = ("delete_file", {"path": "/a"})
ENTRY_KEYS = {
    "agent_run_id",
    "created_at",
    "tool_name",
    "message_type",
    "thought",
    "observation",
    "tool_input",
    "tool_output",
}
LOG_KEYS = {
    "id",
    "organization_id",
    "status",
    "created_at",
    "web_url",
    "result",
    "metadata",
    "logs",
    "total_logs",
    "page",
    "size",
    "pages",
}


async def log_of(server: Server, run_key: int, **requested: object) -> JsonObject:
    """Return the part of the run's log that is asked for, the same by either path."""
    params = {key: str(value) for key, value in requested.items()}
    response = await server.client.get(f"/v1/alpha/organizations/1/agent/run/{run_key}/logs", params=params)
    assert response.status_code == 200, response.text
    plain = await server.client.get(f"{CODEGEN}/{run_key}/logs", params=params)
    assert (plain.status_code, plain.json()) == (200, response.json())
    log: JsonObject = response.json()
    assert set(log) == LOG_KEYS
    for entry in log["logs"]:
        assert set(entry) == ENTRY_KEYS
        assert entry["agent_run_id"] == run_key
        assert datetime.fromisoformat(entry["created_at"]).tzinfo is not None
    return log


def reported(entry: JsonObject) -> JsonObject:
    """Return what an entry says, without the keys that every entry has and those that say nothing."""
    return {key: entry[key] for key in entry if key not in {"agent_run_id", "created_at"} and entry[key] is not None}


def message(**sent: object) -> JsonObject:
    """Return the entry of something that the user said."""
    return {"message_type": "USER_MESSAGE", "tool_name": "user_input", "tool_input": sent, "tool_output": {}}


@asynccontextmanager
async def talking(folder: Path, *turns: Turn, **changes: Any) -> AsyncIterator[Server]:  # noqa: ANN401 - any setting
    """Serve an agent whose model says and calls what the turns say, with tools that note, fail, and have to wait."""
    agent: Agent[None, Any] = Agent(ScriptedModel(*turns).model, name="talker")

    @agent.tool_plain
    def note(text: str) -> dict[str, str]:
        return {"noted": text}

    @agent.tool_plain
    def fail() -> str:
        raise LookupError("nothing there")

    @agent.tool_plain(requires_approval=True)
    def delete_file(path: str) -> str:
        return f"deleted {path}"

    async with served(folder, agent, **changes) as server:
        yield server


async def test_a_log_tells_the_whole_story_in_order(tmp_path: Path) -> None:
    turns: list[Turn] = [
        [Thought("hm"), "I look first.", Call("note", {"text": "a"}, "c1"), Call("fail", {}, "c2")],
        [Call("note", {"text": "b"}, "c3")],
        ["Now I delete.", Call("delete_file", {"path": "/a"}, "c4")],
        "All done.",
    ]
    async with talking(tmp_path, *turns) as server:
        made = await server.create_by_codegen("tidy up", metadata={"team": "x"})
        paused = (await log_of(server, made["id"]))["logs"]
        await server.resume(made["id"], "not that")
        log = await log_of(server, made["id"])
    pause_id = log["logs"][-3]["observation"]["pause_id"]
    # Calls of one answer run at once: whichever ends first stands first.
    calls = sorted((reported(entry) for entry in log["logs"][2:4]), key=lambda entry: str(entry["tool_name"]))
    assert [reported(entry) for entry in log["logs"][:2]] == [
        message(prompt="tidy up"),
        {"message_type": "PLAN_EVALUATION", "thought": "I look first."},
    ]
    assert calls == [
        {
            "message_type": "ACTION",
            "tool_name": "fail",
            "tool_input": {},
            "tool_output": {"error": "nothing there"},
        },
        {
            "message_type": "ACTION",
            "tool_name": "note",
            "tool_input": {"text": "a"},
            "tool_output": {"result": '{"noted":"a"}'},
        },
    ]
    assert [reported(entry) for entry in log["logs"][4:]] == [
        {
            "message_type": "ACTION",
            "tool_name": "note",
            "tool_input": {"text": "b"},
            "tool_output": {"result": '{"noted":"b"}'},
        },
        {"message_type": "PLAN_EVALUATION", "thought": "Now I delete."},
        {
            "message_type": "PLAN_EVALUATION",
            "thought": 'Waiting for a confirmation of delete_file(path="/a").',
            "observation": {
                "pause_id": pause_id,
                "requirements": [
                    {
                        "tool_call_id": "c4",
                        "tool_name": "delete_file",
                        "tool_args": {"path": "/a"},
                        "kind": "confirmation",
                        "fields": [],
                        "approval_id": None,
                        "expires_at": None,
                    }
                ],
            },
        },
        message(
            prompt="not that",
            answers=[{"tool_call_id": "c4", "tool_name": "delete_file", "decision": "rejected"}],
        ),
        {"message_type": "FINAL_ANSWER", "observation": "All done."},
    ]
    # What was told once is told the same way ever after.
    assert log["logs"][: len(paused)] == paused
    assert (log["status"], log["result"], log["metadata"]) == ("COMPLETE", "All done.", {"team": "x"})
    assert (log["total_logs"], log["page"], log["size"], log["pages"]) == (9, 1, 100, 1)


async def test_the_run_beside_its_log_is_the_run_as_it_is_read_alone(server: Server) -> None:
    paused = await server.create_by_codegen(plan([DELETE]))
    log = await log_of(server, paused["id"])
    keys = LOG_KEYS & paused.keys()
    assert len(keys) == 7
    assert {key: log[key] for key in keys} == {key: paused[key] for key in keys}
    assert paused["result"] == log["logs"][-1]["thought"]


async def test_decisions_that_came_through_agno_are_in_the_log(server: Server) -> None:
    run = await server.create([DELETE, ("run_shell", {"command": "ls"}), ("book", {"day": "Monday"})], user_id="alice")
    key = await server.key_of(run)
    tools = {tool["tool_name"]: tool for tool in run["tools"]}
    delete, shell, book = (tools[name] for name in ("delete_file", "run_shell", "book"))
    await server.continued(run, [rejected(delete, "keep it")], user_id="alice")
    values = [{"name": "seats", "value": 2}]
    await server.continued(run, [{**shell, "result": "a.txt"}, {**book, "user_input_schema": values}])
    entries = [reported(entry) for entry in (await log_of(server, key))["logs"]]
    first, pause, still, answered, *_ = entries
    assert (first["message_type"], pause["message_type"]) == ("USER_MESSAGE", "PLAN_EVALUATION")
    assert [len(entry["observation"]["requirements"]) for entry in (pause, still)] == [3, 2]
    fields = {item["tool_name"]: item["fields"] for item in pause["observation"]["requirements"]}
    assert fields == {"delete_file": [], "run_shell": [], "book": ["seats", "quiet"]}
    assert "Waiting for input to book(" in still["thought"]
    assert "Waiting for the result of run_shell(" in still["thought"]
    provided = answered["tool_input"]["answers"]
    assert answered == message(answers=provided)
    assert sorted(provided, key=lambda item: len(item["tool_name"])) == sorted(
        [
            {
                "tool_call_id": delete["tool_call_id"],
                "tool_name": "delete_file",
                "decision": "rejected",
                "note": "keep it",
                "by": "alice",
            },
            {
                "tool_call_id": shell["tool_call_id"],
                "tool_name": "run_shell",
                "decision": "answered",
                "result": "a.txt",
            },
            {
                "tool_call_id": book["tool_call_id"],
                "tool_name": "book",
                "decision": "answered",
                "values": {"seats": 2},
            },
        ],
        key=lambda item: len(item["tool_name"]),
    )


async def test_an_approval_that_is_awaited_is_named(server: Server) -> None:
    paused = await server.create_by_codegen(plan([("deploy", {"env": "prod"})]))
    entry = (await log_of(server, paused["id"], reverse=True, limit=1))["logs"][0]
    approval = (await server.get("/approvals")).json()["data"][0]
    assert entry["thought"] == 'Waiting for an administrator to approve deploy(env="prod").'
    assert entry["observation"]["requirements"][0]["approval_id"] == approval["id"]


async def test_a_failed_run_ends_with_an_error(tmp_path: Path) -> None:
    async with talking(tmp_path, ConnectionError("no route")) as server:
        made = await server.create_by_codegen("x")
        log = await log_of(server, made["id"])
        assert log["status"] == "ERROR"
        assert reported(log["logs"][-1]) == {"message_type": "ERROR", "observation": "no route"}
        assert log["total_logs"] == 2


async def test_a_cancelled_run_ends_with_an_error_that_says_so(server: Server) -> None:
    paused = await server.create_by_codegen(plan([DELETE]))
    await server.post(f"{CODEGEN}/ban", {"agent_run_id": paused["id"]})
    log = await log_of(server, paused["id"])
    last = reported(log["logs"][-1])
    assert (log["status"], last["message_type"]) == ("CANCELLED", "ERROR")
    assert last["observation"] == log["result"]
    assert "was cancelled" in last["observation"]


@pytest.mark.parametrize(
    ("requested", "shown", "page", "pages"),
    [
        ({}, lambda entries: entries, 1, 1),
        ({"reverse": True}, lambda entries: entries[::-1], 1, 1),
        ({"limit": 2}, lambda entries: entries[:2], 1, 3),
        ({"limit": 2, "skip": 2}, lambda entries: entries[2:4], 2, 3),
        ({"limit": 2, "skip": 4}, lambda entries: entries[4:], 3, 3),
        ({"limit": 2, "skip": 1}, lambda entries: entries[1:3], 1, 3),
        ({"limit": 2, "skip": 1, "reverse": True}, lambda entries: entries[::-1][1:3], 1, 3),
        ({"limit": 1, "reverse": True}, lambda entries: entries[-1:], 1, 5),
        ({"limit": 5, "skip": 5}, lambda _: [], 2, 1),
        ({"limit": 1, "skip": 10**30}, lambda _: [], 10**30 + 1, 5),
        ({"page": 3, "size": 1}, lambda entries: entries, 1, 1),
    ],
)
async def test_a_part_of_a_log_is_cut_from_what_is_shown(
    tmp_path: Path,
    requested: JsonObject,
    shown: Callable[[list[JsonObject]], list[JsonObject]],
    page: int,
    pages: int,
) -> None:
    turns: list[Turn] = [["One.", Call("note", {"text": "a"})], [Call("note", {"text": "b"})], "Done."]
    async with talking(tmp_path, *turns) as server:
        made = await server.create_by_codegen("x")
        whole = (await log_of(server, made["id"]))["logs"]
        assert [entry["message_type"] for entry in whole] == [
            "USER_MESSAGE",
            "PLAN_EVALUATION",
            "ACTION",
            "ACTION",
            "FINAL_ANSWER",
        ]
        part = await log_of(server, made["id"], **requested)
        assert part["logs"] == shown(whole)
        assert (part["total_logs"], part["page"], part["pages"]) == (5, page, pages)
        assert part["size"] == requested.get("limit", 100)


async def test_a_parameter_that_does_not_fit_is_a_422(server: Server) -> None:
    cases: list[JsonObject] = [{"skip": -1}, {"limit": 0}, {"limit": 101}, {"reverse": "maybe"}]
    for requested in cases:
        made = await server.create_by_codegen("x")
        response = await server.client.get(f"{CODEGEN}/{made['id']}/logs", params=requested)
        assert response.status_code == 422
        assert [item["loc"] for item in response.json()["detail"]] == [["query", next(iter(requested))]]


async def test_a_run_that_is_not_there_is_not_found(server: Server) -> None:
    for run_id in (999, 0, -1, 2**63, 10**40):
        for prefix in ("/v1", "/v1/alpha"):
            response = await server.get(f"{prefix}/organizations/1/agent/run/{run_id}/logs")
            assert (response.status_code, response.json()) == (
                404,
                {"message": "Agent run not found.", "status_code": 404},
            )
            response = await server.get(f"{prefix}/organizations/2/agent/run/{run_id}/logs")
            assert response.status_code == 403
            assert response.json() == {"message": "You do not have access to this organization.", "status_code": 403}


async def test_a_new_run_has_its_prompt_in_the_log_before_anything_happens(server: Server) -> None:
    made = (await server.post(CODEGEN, {"prompt": ""})).json()
    # Read once: the run goes on meanwhile.
    log = (await server.get(f"{CODEGEN}/{made['id']}/logs")).json()
    assert reported(log["logs"][0]) == message(prompt="")


async def test_a_log_goes_on_after_a_continue_through_agno(server: Server) -> None:
    paused = await server.create_by_codegen(plan([DELETE]))
    run = await server.read({"agent_id": "toolbox", "run_id": paused["web_url"].rpartition("/")[2]})
    done = await server.continued(run, [confirmed(run["tools"][0])])
    entries = [reported(entry) for entry in (await log_of(server, paused["id"], skip=2))["logs"]]
    decision = {"tool_call_id": run["tools"][0]["tool_call_id"], "tool_name": "delete_file", "decision": "confirmed"}
    assert entries == [
        message(answers=[decision]),
        {
            "message_type": "ACTION",
            "tool_name": "delete_file",
            "tool_input": {"path": "/a"},
            "tool_output": {"result": "did delete_file(/a)"},
        },
        {"message_type": "FINAL_ANSWER", "observation": done["content"]},
    ]
