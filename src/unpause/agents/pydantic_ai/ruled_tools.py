"""Applies the rules of policies to an agent's tools, also those that its own capabilities give them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from pydantic_ai.tools import ToolDefinition
from pydantic_ai.toolsets import ToolsetTool, WrapperToolset

from unpause.agents.policy import METADATA_KEY
from unpause.agents.pydantic_ai.arguments import ANY_OBJECT
from unpause.agents.pydantic_ai.schemas import hide_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from pydantic_ai.tools import RunContext
    from pydantic_ai.toolsets import AbstractToolset

    from unpause.agents.policy import ToolPolicy
    from unpause.agents.pydantic_ai.gate import CallGate

# The kinds of the framework's own tools, which have no rules.
_FRAMEWORKS: Final = ("tool-search", "capability-load")


@dataclass
class RuledToolset(WrapperToolset[Any]):
    """The outermost toolset of an agent that has capabilities of its author's.

    They wrap the journaled toolset, and may give tools other metadata, with other rules than it has seen, or other
    names, or put tools beside it; ``journal`` wraps those as well.
    """

    gate: CallGate
    journal: Callable[[AbstractToolset[Any]], AbstractToolset[Any]]

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        """Return the tools as the model may see them, with the rules that they have in the end."""
        gate = self.gate
        gate.metadata.clear()
        tools = await super().get_tools(ctx)
        own = {name: tool.tool_def for name, tool in tools.items() if tool.tool_def.tool_kind not in _FRAMEWORKS}
        for name, definition in own.items():
            if name in gate.added or name not in gate.originals:
                gate.added.add(name)
                gate.originals[name] = tools[name]
            # A capability that makes tools anew may have forgotten their rules.
            has_rules = definition.metadata is not None and METADATA_KEY in definition.metadata
            gate.metadata[name] = definition.metadata if has_rules else gate.originals[name].tool_def.metadata
        return with_rules({**tools, **stand_ins(self, gate, tools)}, gate, own)

    async def call_tool(
        self, name: str, tool_args: dict[str, Any], ctx: RunContext[Any], tool: ToolsetTool[Any]
    ) -> Any:  # noqa: ANN401 - whatever the tool returns
        """Run the tool once for its decision, also one that the journaled toolset does not know by this name."""
        journaled = self.journal(self.wrapped) if name in self.gate.added else self.wrapped
        return await journaled.call_tool(name, tool_args, ctx, tool)


def with_rules(
    tools: dict[str, ToolsetTool[Any]], gate: CallGate, ruled: Mapping[str, ToolDefinition]
) -> dict[str, ToolsetTool[Any]]:
    """Return the tools, those that are ``ruled`` with their rules applied."""
    return {**tools, **{name: _ruled(tools[name], gate.rules_of(definition)) for name, definition in ruled.items()}}


def stand_ins(toolset: AbstractToolset[Any], gate: CallGate, tools: Collection[str]) -> dict[str, ToolsetTool[Any]]:
    """Return what takes the approved calls of tools that the agent does not have now, by name.

    No model sees these: each pauses the segment, instead of an error for the model.
    """
    missing = gate.shown.list_missing(tools) if gate.resumes else ()
    return {name: _stand_in(toolset, name) for name in missing}


def _stand_in(toolset: AbstractToolset[Any], name: str) -> ToolsetTool[Any]:
    definition = ToolDefinition(name=name, kind="unapproved")
    return ToolsetTool(toolset=toolset, tool_def=definition, max_retries=0, args_validator=ANY_OBJECT)


def _ruled(tool: ToolsetTool[Any], rules: ToolPolicy) -> ToolsetTool[Any]:
    """Return the tool so that it waits for people where its rules say so, without the parameters that they fill in."""
    definition = tool.tool_def
    if definition.kind == "function" and (rules.user_input or rules.waits):
        definition = replace(definition, kind="unapproved")
    if rules.user_input:
        definition = replace(definition, parameters_json_schema=hide_parameters(definition, rules.user_input))
    return tool if definition is tool.tool_def else replace(tool, tool_def=definition)
