"""What a segment adds to its agent: a gate around the tools, a judge of outputs, a recorder of answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic_ai import Agent
from pydantic_ai.capabilities import AbstractCapability

from unpause.agents.pydantic_ai.gate import CallGate
from unpause.agents.pydantic_ai.outputs import OutputJudge
from unpause.agents.pydantic_ai.ruled_tools import RuledToolset

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic_ai.messages import ToolCallPart
    from pydantic_ai.models import Model, ModelRequestContext
    from pydantic_ai.tools import RunContext, ToolDefinition
    from pydantic_ai.toolsets import AbstractToolset

    from unpause.agents.pydantic_ai.answers import RecordedModel
    from unpause.agents.pydantic_ai.toolset import JournalCapability


@dataclass(kw_only=True)
class SegmentCapability(CallGate):
    """The gate of tool calls with the judge of outputs: one capability, since each costs every event of a run."""

    judge: OutputJudge
    # Wraps the models that send the segment's requests; None where the agent streams them itself.
    record: Callable[[Model, RunContext[Any] | None], RecordedModel] | None = None
    _context: RunContext[Any] | None = field(default=None, init=False)
    _journaling: JournalCapability = field(init=False)

    def joined_with(self, journaling: JournalCapability) -> list[AbstractCapability[Any]]:
        """Return the capabilities of the segment: those of the agent's author come between the two."""
        self._journaling = journaling
        return [self, journaling]

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        """Return the toolset, with the rules that the capabilities of the author give its tools."""
        return RuledToolset(toolset, self, self._journaling.get_wrapper_toolset)

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Keep the context for the model that is wrapped next.

        Not in ``prepare_model_request``: for a capability that has that, the framework copies every tool's schema.
        """
        self._context = ctx
        return request_context

    def get_wrapper_model(self, model: Model) -> Model | None:
        """Return the model with its answers recorded."""
        return None if self.record is None else self.record(model, self._context)

    def release(self) -> None:
        """Let go of the run, and of the journal: the segment is over."""
        self.originals.clear()
        self.record = self._context = None
        del self._journaling

    async def after_node_run(self, ctx: RunContext[Any], *, node: Any, result: Any) -> Any:  # noqa: ANN401 - any node
        """Have the judge see each step."""
        return await self.judge.after_node_run(ctx, node=node, result=result)

    async def wrap_output_validate(self, ctx: RunContext[Any], **hook: Any) -> Any:  # noqa: ANN401 - any output
        """Have the judge validate the output."""
        return await self.judge.wrap_output_validate(ctx, **hook)

    async def wrap_output_process(self, ctx: RunContext[Any], **hook: Any) -> Any:  # noqa: ANN401 - any output
        """Have the judge process the output."""
        return await self.judge.wrap_output_process(ctx, **hook)


@dataclass(kw_only=True)
class PlainCapability(SegmentCapability):
    """All of it in one, for an agent without capabilities of its author's, which would have to come in between.

    For each step and hook the framework copies its context once for each capability.
    """

    rules_last: bool = False

    def joined_with(self, journaling: JournalCapability) -> list[AbstractCapability[Any]]:
        """Return this one alone."""
        return super().joined_with(journaling)[:1]

    def get_ordering(self) -> None:
        """Return that its place is behind those of the framework, as that of the journal is."""

    async def prepare_output_tools(self, ctx: RunContext[Any], tool_defs: list[ToolDefinition]) -> list[ToolDefinition]:
        """Do what the journal does."""
        return await self._journaling.prepare_output_tools(ctx, tool_defs)

    def get_wrapper_toolset(self, toolset: AbstractToolset[Any]) -> AbstractToolset[Any]:
        """Do what the journal does."""
        return self._journaling.get_wrapper_toolset(toolset)

    async def before_model_request(
        self, ctx: RunContext[Any], request_context: ModelRequestContext
    ) -> ModelRequestContext:
        """Do what the journal does, too."""
        request_context = await super().before_model_request(ctx, request_context)
        return await self._journaling.before_model_request(ctx, request_context)

    async def before_tool_validate(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: str | dict[str, Any],
    ) -> str | dict[str, Any]:
        """Do what the journal does."""
        return await self._journaling.before_tool_validate(ctx, call=call, tool_def=tool_def, args=args)


def is_plain(agent: Agent[Any, Any]) -> bool:
    """Whether the agent has no capabilities but those that every agent has."""
    return type(agent) is Agent and _kinds(agent) <= _kinds(Agent())


def _kinds(agent: Agent[Any, Any]) -> set[type[AbstractCapability[Any]]]:
    leaves: list[AbstractCapability[Any]] = []
    agent.root_capability.apply(leaves.append)
    return set(map(type, leaves))
