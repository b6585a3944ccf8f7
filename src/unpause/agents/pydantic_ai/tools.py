"""What an agent can call, as far as its Pydantic AI toolsets say it without a run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic_ai.toolsets import ExternalToolset, FunctionToolset, WrapperToolset

from unpause.agents.driver import ToolDescription
from unpause.agents.policy import ToolPolicy
from unpause.agents.pydantic_ai.toolset import hide_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_ai import Agent
    from pydantic_ai.tools import ToolDefinition
    from pydantic_ai.toolsets import AbstractToolset


def describe_tools(agent: Agent[Any, Any]) -> list[ToolDescription]:
    """Return the tools of the agent's function and external toolsets; those of a server such as MCP are not asked."""
    return [_described(definition) for toolset in agent.toolsets for definition in _definitions(toolset)]


def _definitions(toolset: AbstractToolset[Any]) -> Iterator[ToolDefinition]:
    match toolset:
        case WrapperToolset():
            yield from _definitions(toolset.wrapped)
        case FunctionToolset():
            yield from (tool.tool_def for tool in toolset.tools.values())
        case ExternalToolset():
            # The definitions get their kind only when a run asks the toolset for them.
            yield from (replace(definition, kind="external") for definition in toolset.tool_defs)
        case _:
            pass


def _described(definition: ToolDefinition) -> ToolDescription:
    rules = ToolPolicy.of(definition.metadata)
    external = definition.kind == "external"
    waits = definition.kind == "unapproved" or rules.waits
    return ToolDescription(
        name=definition.name,
        description=definition.description,
        parameters=hide_parameters(definition, rules.user_input),
        requires_confirmation=waits and not external and not rules.user_input,
        requires_user_input=bool(rules.user_input),
        external_execution=external,
        approval=(rules.elsewhere if external else rules).approval,
    )
