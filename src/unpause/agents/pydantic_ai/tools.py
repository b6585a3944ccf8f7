"""The tools of an agent, as far as its toolsets list them without a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic_ai.capabilities import AbstractCapability, SetToolMetadata
from pydantic_ai.toolsets import (
    ApprovalRequiredToolset,
    CombinedToolset,
    ExternalToolset,
    FunctionToolset,
    PrefixedToolset,
    RenamedToolset,
    SetMetadataToolset,
    WrapperToolset,
)

from unpause.agents.driver import ToolDescription
from unpause.agents.policy import ToolPolicies
from unpause.agents.pydantic_ai.schemas import hide_parameters, parameters_of
from unpause.errors import InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_ai import Agent
    from pydantic_ai.tools import Tool, ToolDefinition
    from pydantic_ai.toolsets import AbstractToolset


@dataclass(frozen=True, slots=True)
class KnownTool:
    """A tool under the name that the model calls it by; ``source`` is None for one that is run elsewhere.

    Whether calls of one that ``may_wait`` wait for an approval depends on the call.
    """

    definition: ToolDefinition
    source: Tool[Any] | None = None
    may_wait: bool = False


def list_known_tools(agent: Agent[Any, Any]) -> list[KnownTool]:
    """Return the tools of the agent's function and external toolsets, and not those of a server such as MCP.

    They have the metadata that the agent's capabilities always give them.
    """
    tools = [tool for toolset in agent.toolsets for tool in _tools(toolset)]
    leaves: list[AbstractCapability[Any]] = []
    agent.root_capability.apply(leaves.append)
    # The first one has the last word.
    for leaf in reversed(leaves):
        if isinstance(leaf, SetToolMetadata):
            tools = [_with_metadata(tool, leaf.metadata) if _selects(leaf, tool) else tool for tool in tools]
    return tools


def describe_tools(agent: Agent[Any, Any], policies: ToolPolicies) -> list[ToolDescription]:
    """Return the tools that are known, as they are shown to people."""
    return [_described(tool.definition, policies) for tool in list_known_tools(agent)]


def read_policies(agent: Agent[Any, Any]) -> ToolPolicies:
    """Return the policies of the agent's tools; raise InvalidSetting for the first that is impossible."""
    policies = ToolPolicies()
    for tool, problem in find_policy_errors(agent, policies):
        raise InvalidSetting(f"agent {agent.name!r}, tool {tool.definition.name!r}: {problem}")
    return policies


def find_policy_errors(agent: Agent[Any, Any], policies: ToolPolicies) -> Iterator[tuple[KnownTool, str]]:
    """Yield each known tool whose policy is impossible, and why.

    It cannot be read, names a parameter that the tool does not have, or is for another kind of tool.
    """
    for tool in list_known_tools(agent):
        definition = tool.definition
        try:
            rules = policies.get(definition.name, definition.metadata)
        except ValueError as error:
            yield tool, str(error)
            continue
        if definition.kind == "external" and rules.remember is not None:
            yield tool, "remember is for approvals, and this tool is run elsewhere"
        if definition.parameters_json_schema.get("additionalProperties"):
            # It takes any others, too.
            continue
        parameters = parameters_of(definition)
        for field, named in (("user_input", rules.user_input), ("editable", rules.editable)):
            if unknown := [name for name in named if name not in parameters]:
                has = f"it has {', '.join(parameters)}" if parameters else "it has none"
                near = get_close_matches(unknown[0], parameters, 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                yield tool, f"{field} names no parameter of it: {', '.join(unknown)} ({has}{hint})"


def find_unknown_toolsets(agent: Agent[Any, Any]) -> list[str]:
    """Return the kinds of toolsets whose tools are only known in a run, such as those of MCP servers."""
    return sorted({name for toolset in agent.toolsets for name in _unknown(toolset)})


def find_renamed_nothing(agent: Agent[Any, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield each name that a toolset renames and that is no tool of it, with the names of those there are."""
    for toolset in agent.toolsets:
        yield from _renamed_nothing(toolset)


def _tools(toolset: AbstractToolset[Any]) -> Iterator[KnownTool]:
    match toolset:
        case WrapperToolset():
            yield from (_wrapped(toolset, tool) for tool in _tools(toolset.wrapped))
        case CombinedToolset():
            for each in toolset.toolsets:
                yield from _tools(each)
        case FunctionToolset():
            yield from (KnownTool(tool.tool_def, tool) for tool in toolset.tools.values())
        case ExternalToolset():
            # The definitions get their kind only in a run.
            yield from (KnownTool(replace(definition, kind="external")) for definition in toolset.tool_defs)
        case _:
            pass


def _unknown(toolset: AbstractToolset[Any]) -> Iterator[str]:
    match toolset:
        case WrapperToolset():
            yield from _unknown(toolset.wrapped)
        case CombinedToolset():
            for each in toolset.toolsets:
                yield from _unknown(each)
        case FunctionToolset() | ExternalToolset():
            pass
        case _:
            yield type(toolset).__name__


def _renamed_nothing(toolset: AbstractToolset[Any]) -> Iterator[tuple[str, list[str]]]:
    match toolset:
        case WrapperToolset():
            yield from _renamed_nothing(toolset.wrapped)
            if isinstance(toolset, RenamedToolset) and not any(_unknown(toolset)):
                names = [tool.definition.name for tool in _tools(toolset.wrapped)]
                yield from ((old, names) for old in toolset.name_map.values() if old not in names)
        case CombinedToolset():
            for each in toolset.toolsets:
                yield from _renamed_nothing(each)
        case _:
            pass


def _wrapped(toolset: WrapperToolset[Any], tool: KnownTool) -> KnownTool:
    """Return the tool as the wrapper shows it, for wrappers that always do the same."""
    definition = tool.definition
    match toolset:
        case PrefixedToolset():
            definition = replace(definition, name=f"{toolset.prefix}_{definition.name}")
        case RenamedToolset():
            new_names = {old: new for new, old in toolset.name_map.items()}
            definition = replace(definition, name=new_names.get(definition.name, definition.name))
        case SetMetadataToolset():
            return _with_metadata(tool, toolset.metadata)
        case ApprovalRequiredToolset():
            return replace(tool, may_wait=True)
        case _:
            return tool
    return replace(tool, definition=definition)


def _selects(capability: SetToolMetadata[Any], tool: KnownTool) -> bool:
    """Whether the capability is for this tool, where it says so without a run."""
    names = capability.tools
    return names == "all" or (isinstance(names, list | tuple) and tool.definition.name in names)


def _with_metadata(tool: KnownTool, metadata: dict[str, Any]) -> KnownTool:
    definition = tool.definition
    return replace(tool, definition=replace(definition, metadata={**(definition.metadata or {}), **metadata}))


def _described(definition: ToolDefinition, policies: ToolPolicies) -> ToolDescription:
    rules = policies.get(definition.name, definition.metadata)
    external = definition.kind == "external"
    waits = definition.kind == "unapproved" or rules.waits
    return ToolDescription(
        name=definition.name,
        description=definition.description,
        parameters=hide_parameters(definition, rules.user_input),
        requires_confirmation=waits and not external and not rules.user_input,
        requires_user_input=bool(rules.user_input),
        external_execution=external,
        approval=(rules.for_external_execution() if external else rules).approval,
    )
