"""The rules that an author gives to a tool, obeyed by a whole server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, Tool

from tests.agents.pydantic_ai.driving import driving, open_tools, yes
from tests.support.agents import Call, ScriptedModel
from tests.support.toolbox import JsonObject
from unpause.agents.policy import policy


class Mail:
    """Tools that keep what they did."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, ...]] = []

    def send(self, subject: str, to: str, copies: int = 1) -> str:
        """Send mail.

        Args:
            subject: What it is about.
            to: Who gets it.
            copies: How often.
        """
        self.sent.append((subject, to, copies))
        return f"sent {copies}"


def _agent(
    script: ScriptedModel, mail: Mail, metadata: dict[str, object], *, approve: bool = False
) -> Agent[None, str]:
    return Agent(script.model, name="agent", tools=[Tool(mail.send, metadata=metadata, requires_approval=approve)])


def _fill(tool: JsonObject, **values: object) -> JsonObject:
    schema = [{**item, "value": values.get(item["name"], item["value"])} for item in tool["user_input_schema"]]
    return {**tool, "user_input_schema": schema}


async def test_the_model_never_sees_what_the_user_fills_in(tmp_path: Path) -> None:
    mail = Mail()
    script = ScriptedModel([Call("send", {"subject": "Hi"})], "done")
    async with driving(tmp_path, _agent(script, mail, policy(user_input=["to", "copies"]))) as server:
        run = await server.run()
        assert set(script.infos[0].function_tools[0].parameters_json_schema["properties"]) == {"subject"}
        schema = run["tools"][0]["user_input_schema"]
        assert [(item["name"], item["field_type"], item["description"], item["value"]) for item in schema] == [
            ("subject", "str", "What it is about.", "Hi"),
            ("to", "str", "Who gets it.", None),
            ("copies", "int", "How often.", None),
        ]
        done = await server.answer_with(run, _fill(run["tools"][0], to="ada", copies=2))
    assert (done["status"], mail.sent) == ("COMPLETED", [("Hi", "ada", 2)])


async def test_what_the_model_put_into_a_hidden_field_is_no_answer(tmp_path: Path) -> None:
    mail = Mail()
    script = ScriptedModel([Call("send", {"subject": "Hi", "to": "eve"})], "done")
    async with driving(tmp_path, _agent(script, mail, policy(user_input=["to"]))) as server:
        run = await server.run()
        assert (run["status"], mail.sent) == ("PAUSED", [])
        values = {item["name"]: item["value"] for item in run["tools"][0]["user_input_schema"]}
        assert values["to"] is None
        await server.answer_with(run, _fill(run["tools"][0], to="ada"))
    assert mail.sent == [("Hi", "ada", 1)]


@pytest.mark.parametrize("approve", [True, False])
async def test_an_editable_argument_makes_a_call_wait_and_may_be_changed(tmp_path: Path, *, approve: bool) -> None:
    mail = Mail()
    script = ScriptedModel([Call("send", {"subject": "Hi", "to": "eve"})], "done")
    agent = _agent(script, mail, policy(editable=["to", "copies"]), approve=approve)
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        (tool,) = open_tools(run)
        changed = {**yes(tool), "tool_args": {"subject": "Hi", "to": "ada", "copies": 7}}
        done = await server.answer_with(run, changed)
    assert (done["status"], mail.sent) == ("COMPLETED", [("Hi", "ada", 7)])
    assert done["tools"][0]["tool_args"] == {"subject": "Hi", "to": "ada", "copies": 7}


async def test_an_edited_argument_of_the_wrong_type_never_reaches_the_tool(tmp_path: Path) -> None:
    mail = Mail()
    script = ScriptedModel([Call("send", {"subject": "Hi", "to": "eve"})], "done")
    async with driving(tmp_path, _agent(script, mail, policy(editable=["copies"]))) as server:
        run = await server.run()
        changed = {**yes(open_tools(run)[0]), "tool_args": {"subject": "Hi", "to": "eve", "copies": "many"}}
        path = f"/agents/agent/runs/{run['run_id']}/continue"
        refused = await server.client.post(path, data={"stream": "false", "tools": json.dumps([changed])})
        assert (refused.status_code, mail.sent) == (400, [])
        # Nothing is spent: the call waits as it did.
        done = await server.confirm(run)
    assert (done["status"], mail.sent) == ("COMPLETED", [("Hi", "eve", 1)])


@pytest.mark.parametrize("approval", ["required", "audit"])
async def test_a_tool_with_an_approval_waits_even_if_its_author_did_not_ask_for_one(
    tmp_path: Path, approval: str
) -> None:
    mail = Mail()
    script = ScriptedModel([Call("send", {"subject": "Hi", "to": "eve"})], "done")
    metadata = policy(approval="required") if approval == "required" else policy(approval="audit")
    async with driving(tmp_path, _agent(script, mail, metadata)) as server:
        run = await server.run()
        assert (run["status"], mail.sent) == ("PAUSED", [])
        assert run["tools"][0]["approval_type"] == approval
        if approval == "audit":
            done = await server.confirm(run)
            assert (done["status"], mail.sent) == ("COMPLETED", [("Hi", "eve", 1)])
        else:
            path = f"/agents/agent/runs/{run['run_id']}/continue"
            assert (await server.client.post(path, data={"tools": "[]"})).status_code == 403


async def test_an_idempotent_tool_needs_nobody(tmp_path: Path) -> None:
    mail = Mail()
    script = ScriptedModel([Call("send", {"subject": "Hi", "to": "eve"})], "done")
    async with driving(tmp_path, _agent(script, mail, policy(idempotent=True))) as server:
        done = await server.run()
    assert (done["status"], mail.sent) == ("COMPLETED", [("Hi", "eve", 1)])


async def test_an_administrators_approval_holds_the_whole_pause(tmp_path: Path) -> None:
    did: list[str] = []

    def act(name: str) -> str:
        """Act."""
        did.append(name)
        return name

    script = ScriptedModel([Call("act", {"name": "mine"}), Call("publish", {"name": "theirs"})], "done")
    agent = Agent(
        script.model,
        name="agent",
        tools=[
            Tool(act, requires_approval=True),
            Tool(act, name="publish", requires_approval=True, metadata=policy(approval="required")),
        ],
    )
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        path = f"/agents/agent/runs/{run['run_id']}/continue"
        response = await server.client.post(path, data={"tools": '[{"tool_call_id": "x", "confirmed": true}]'})
        assert response.status_code == 403
    assert did == []


async def test_the_author_s_own_metadata_stays_beside_the_rules(tmp_path: Path) -> None:
    mail = Mail()
    script = ScriptedModel([Call("send", {"subject": "Hi"})], "done")
    agent = _agent(script, mail, policy(user_input=["to"]) | {"team": "mail"})
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        await server.answer_with(run, _fill(run["tools"][0], to="ada"))
    assert (script.infos[0].function_tools[0].metadata or {})["team"] == "mail"
    assert mail.sent == [("Hi", "ada", 1)]


@pytest.mark.parametrize("args", ['{"subject": ', "[1]", "null", '"x"'])
async def test_arguments_that_are_no_object_never_reach_who_would_fill_in_the_rest(tmp_path: Path, args: str) -> None:
    mail = Mail()
    script = ScriptedModel([Call("send", args)], [Call("send", {"subject": "Hi"})], "done")
    async with driving(tmp_path, _agent(script, mail, policy(user_input=["to"]))) as server:
        run = await server.run()
        assert (run["status"], len(script.requests)) == ("PAUSED", 2)
        await server.answer_with(run, _fill(run["tools"][1], to="ada"))
    assert mail.sent == [("Hi", "ada", 1)]


async def test_a_wrong_argument_goes_back_to_the_model_before_anybody_fills_in_the_rest(tmp_path: Path) -> None:
    mail = Mail()
    script = ScriptedModel([Call("send", {"subject": 5})], "done")
    async with driving(tmp_path, _agent(script, mail, policy(user_input=["to"]))) as server:
        done = await server.run()
    assert (done["status"], mail.sent) == ("COMPLETED", [])
    assert "subject: Input should be a valid string" in str(script.requests[-1][-1])
