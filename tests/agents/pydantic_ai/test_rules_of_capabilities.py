"""Rules that an agent's capabilities give its tools: they hold as those do that stand at the tools themselves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, RunContext, Tool
from pydantic_ai.capabilities import AbstractCapability, AgentCapability, PrepareTools, SetToolMetadata, Toolset
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import AbstractToolset, FunctionToolset, PreparedToolset

from tests.agents.pydantic_ai.driving import driving, no, open_tools, said_by_tools, yes
from tests.support.agents import Call, ScriptedModel
from tests.support.serving import options_for
from unpause import policy
from unpause.agents.pydantic_ai.driver import PydanticAIDriver
from unpause.errors import InvalidSetting
from unpause.settings import Settings

RULES: dict[str, Any] = policy(approval="required", editable=["path"])
REMOVE = Call("remove", {"path": "a"}, "c1")


class Wrapping(AbstractCapability[Any]):
    """Puts a toolset around the agent's own."""

    def __init__(self, wrap: Callable[[AbstractToolset[Any]], AbstractToolset[Any]]) -> None:
        self._wrap = wrap

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        """Wrap."""
        return self._wrap(toolset)


class Renaming(AbstractCapability[Any]):
    """Gives the tool another name."""

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        """Rename it."""
        return toolset.renamed({"erase": "remove"})


async def _with_rules(ctx: RunContext[Any], definitions: list[ToolDefinition]) -> list[ToolDefinition]:
    del ctx
    return [replace(definition, metadata=RULES) for definition in definitions]


async def _made_anew(ctx: RunContext[Any], definitions: list[ToolDefinition]) -> list[ToolDefinition]:
    del ctx
    return [ToolDefinition(name=each.name, parameters_json_schema=each.parameters_json_schema) for each in definitions]


def _given(ctx: RunContext[Any]) -> AbstractCapability[Any]:
    del ctx
    return SetToolMetadata(**RULES)


@pytest.mark.parametrize(
    ("capability", "metadata"),
    [
        (SetToolMetadata(**RULES), None),
        (_given, None),
        (PrepareTools(_with_rules), None),
        (Wrapping(lambda tools: PreparedToolset(tools, _with_rules)), None),
        (Wrapping(lambda tools: PreparedToolset(tools, _made_anew)), RULES),
        (Renaming(), RULES),
    ],
    ids=["metadata", "in a run", "prepared", "wrapped", "forgotten", "renamed"],
)
async def test_a_tool_waits_for_an_administrator_where_a_capability_says_so(
    tmp_path: Path,
    capability: AgentCapability[Any],
    metadata: dict[str, object] | None,
) -> None:
    removed: list[str] = []

    def remove(path: str) -> str:
        """Remove a file."""
        removed.append(path)
        return f"removed {path}"

    tool = Tool(remove, metadata=metadata)
    name = "erase" if isinstance(capability, Renaming) else "remove"
    script = ScriptedModel([replace(REMOVE, name=name)])
    agent = Agent(script.model, name="agent", tools=[tool], capabilities=[capability])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        (waiting,) = open_tools(run)
        assert (run["status"], waiting["approval_type"], removed) == ("PAUSED", "required", [])
        assert [each["name"] for each in waiting["editable"]] == ["path"]
        assert (await server.post_continue(run, [yes(waiting)])).status_code == 403
        approval = f"/approvals/{waiting['approval_id']}/resolve"
        assert (await server.client.post(approval, json={"status": "approved"})).status_code == 200
    async with driving(tmp_path, agent) as server:
        done = await server.confirm(run)
    assert (done["status"], said_by_tools(done), removed) == ("COMPLETED", [(name, "removed a")], ["a"])


async def test_a_form_of_a_capability_is_filled_in_and_the_model_sees_no_field_of_it(tmp_path: Path) -> None:
    removed: list[str] = []

    def remove(path: str, reason: str) -> str:
        """Remove a file."""
        removed.append(f"{path}, {reason}")
        return "removed"

    script = ScriptedModel([REMOVE])
    rules: dict[str, Any] = policy(user_input=["reason"])
    form = SetToolMetadata(**rules)
    tools = Toolset(FunctionToolset([remove]))
    agent = Agent(script.model, name="agent", capabilities=[form, tools])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        (tool,) = run["tools"]
        assert (run["status"], tool["requires_user_input"], removed) == ("PAUSED", True, [])
        fields = [{**each, "value": "old"} for each in tool["user_input_schema"] if each["name"] == "reason"]
        done = await server.answer_with(run, {**tool, "user_input_schema": fields})
    assert (done["status"], removed) == ("COMPLETED", ["a, old"])
    assert [list(each.parameters_json_schema["properties"]) for each in script.infos[0].function_tools] == [["path"]]


async def test_a_capability_may_lift_the_rules_of_a_tool(tmp_path: Path) -> None:
    def remove(path: str) -> str:
        """Remove a file."""
        return f"removed {path}"

    rules: dict[str, Any] = policy()
    lifted = SetToolMetadata(**rules)
    tool = Tool(remove, metadata=policy(approval="required"))
    agent = Agent(ScriptedModel([REMOVE]).model, name="agent", tools=[tool], capabilities=[lifted])
    async with driving(tmp_path, agent) as server:
        done = await server.run()
    assert (done["status"], said_by_tools(done)) == ("COMPLETED", [("remove", "removed a")])


async def test_a_rejection_under_the_rules_of_a_capability_is_one(tmp_path: Path) -> None:
    def remove(path: str) -> str:
        """Remove a file."""
        raise AssertionError(path)

    rules: dict[str, Any] = policy(quorum=2)
    strict = SetToolMetadata(**rules)
    agent = Agent(ScriptedModel([REMOVE]).model, name="agent", tools=[remove], capabilities=[strict])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        done = await server.answer_with(run, no(open_tools(run)[0], "keep it"))
    assert (done["status"], said_by_tools(done)) == ("COMPLETED", [("remove", "keep it")])


def test_the_rules_of_a_capability_are_known_without_a_run_and_checked_at_the_start() -> None:
    def remove(path: str) -> str:
        """Remove a file."""
        raise AssertionError(path)

    def described(*capabilities: AgentCapability[Any]) -> list[str | None]:
        agent = Agent("test", name="agent", tools=[remove, Tool(remove, name="delete")], capabilities=capabilities)
        driver = PydanticAIDriver(agent, options_for(Settings(dev=True)))
        return [tool.approval for tool in driver.list_tools()]

    audited: dict[str, Any] = policy(approval="audit")
    assert described(SetToolMetadata(**RULES)) == ["required", "required"]
    assert described(SetToolMetadata(tools=["delete"], **audited), SetToolMetadata(**RULES)) == ["required", "audit"]
    assert described(SetToolMetadata(tools=lambda *_: True, **RULES)) == [None, None]
    with pytest.raises(InvalidSetting, match="unknown policy key: approvall"):
        described(SetToolMetadata(unpause={"approvall": "required"}))
