"""How the demo agent is made: its name, its model, and the rules of its tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_ai.models.test import TestModel

from unpause.agents.demo.agent import build_demo_agent
from unpause.agents.policy import ToolPolicy

if TYPE_CHECKING:
    from pathlib import Path


def test_the_agent_is_named_files(tmp_path: Path) -> None:
    assert build_demo_agent(tmp_path, TestModel()).name == "files"


def test_without_a_model_it_is_the_demo_model(tmp_path: Path) -> None:
    model = build_demo_agent(tmp_path, None).model

    assert not isinstance(model, str)
    assert model is not None
    assert (model.system, model.model_name) == ("unpause", "demo")


def test_a_model_can_be_named(tmp_path: Path) -> None:
    assert isinstance(build_demo_agent(tmp_path, "test").model, TestModel)


async def test_each_tool_carries_the_rules_that_pause_it(tmp_path: Path) -> None:
    model = TestModel(call_tools=[])
    await build_demo_agent(tmp_path, model).run("hi")

    assert model.last_model_request_parameters is not None
    tools = model.last_model_request_parameters.function_tools
    idempotent = ToolPolicy(idempotent=True)
    assert {tool.name: (tool.kind, ToolPolicy.of(tool.metadata)) for tool in tools} == {
        "list_files": ("function", idempotent),
        "read_file": ("function", idempotent),
        "write_file": ("unapproved", ToolPolicy()),
        "delete_file": ("unapproved", ToolPolicy()),
        "send_report": ("function", ToolPolicy(user_input=("recipient", "subject"))),
        "publish": ("unapproved", ToolPolicy(approval="required")),
        "run_shell": ("external", ToolPolicy()),
    }
    assert all(tool.description for tool in tools)


async def test_recipient_and_subject_have_no_default(tmp_path: Path) -> None:
    model = TestModel(call_tools=[])
    await build_demo_agent(tmp_path, model).run("hi")

    assert model.last_model_request_parameters is not None
    schemas = {t.name: t.parameters_json_schema for t in model.last_model_request_parameters.function_tools}
    assert set(schemas["send_report"]["required"]) == {"body", "recipient", "subject"}
