"""Applies the rules of policies to an agent's tools, also those that its own capabilities give them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic_ai.toolsets import ToolsetTool, WrapperToolset

from unpause.agents.policy import METADATA_KEY
from unpause.agents.pydantic_ai.schemas import hide_parameters

if TYPE_CHECKING:
    from pydantic_ai.tools import RunContext

    from unpause.agents.policy import ToolPolicy
    from unpause.agents.pydantic_ai.gate import CallGate


@dataclass
class RuledToolset(WrapperToolset[Any]):
    """The outermost toolset of an agent that has capabilities of its author's.

    They wrap the journaled toolset, and may give tools other metadata, with other rules than it has seen.
    """

    gate: CallGate

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        """Return the tools as the model may see them, with the rules that they have in the end."""
        gate = self.gate
        gate.metadata.clear()
        tools = await super().get_tools(ctx)
        # Others are the framework's, such as its search for tools: those have no rules.
        own = {name: tool.tool_def for name, tool in tools.items() if name in gate.originals}
        for name, definition in own.items():
            # A capability that makes tools anew may have forgotten their rules.
            has_rules = definition.metadata is not None and METADATA_KEY in definition.metadata
            gate.metadata[name] = definition.metadata if has_rules else gate.originals[name].tool_def.metadata
        return {**tools, **{name: ruled(tools[name], gate.rules_of(definition)) for name, definition in own.items()}}


def ruled(tool: ToolsetTool[Any], rules: ToolPolicy) -> ToolsetTool[Any]:
    """Return the tool so that it waits for people where its rules say so, without the parameters that they fill in."""
    definition = tool.tool_def
    if definition.kind == "function" and (rules.user_input or rules.waits):
        definition = replace(definition, kind="unapproved")
    if rules.user_input:
        definition = replace(definition, parameters_json_schema=hide_parameters(definition, rules.user_input))
    return tool if definition is tool.tool_def else replace(tool, tool_def=definition)
