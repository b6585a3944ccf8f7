"""The one capability that stands around all of an agent's own: each further one costs every event of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unpause.agents.pydantic_ai.gate import CallGate
from unpause.agents.pydantic_ai.outputs import OutputJudge

if TYPE_CHECKING:
    from pydantic_ai.tools import RunContext


@dataclass(kw_only=True)
class SegmentCapability(CallGate):
    """The gate of tool calls, with the judge of outputs behind it."""

    judge: OutputJudge

    async def after_node_run(self, ctx: RunContext[Any], *, node: Any, result: Any) -> Any:  # noqa: ANN401 - any node
        """Have the judge see each step."""
        return await self.judge.after_node_run(ctx, node=node, result=result)

    async def wrap_output_validate(self, ctx: RunContext[Any], **hook: Any) -> Any:  # noqa: ANN401 - any output
        """Have the judge validate the output."""
        return await self.judge.wrap_output_validate(ctx, **hook)

    async def wrap_output_process(self, ctx: RunContext[Any], **hook: Any) -> Any:  # noqa: ANN401 - any output
        """Have the judge process the output."""
        return await self.judge.wrap_output_process(ctx, **hook)
