"""The one capability that stands around all of an agent's own: each further one costs every event of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unpause.agents.pydantic_ai.gate import CallGate

if TYPE_CHECKING:
    from pydantic_ai.tools import RunContext

    from unpause.agents.pydantic_ai.outputs import OutputJudge


@dataclass
class SegmentCapability(CallGate):
    """The gate of tool calls, with the judge of outputs behind it."""

    outputs: OutputJudge | None = None

    async def after_node_run(self, ctx: RunContext[Any], *, node: Any, result: Any) -> Any:  # noqa: ANN401 - any node
        """Have the judge see each step."""
        return result if self.outputs is None else await self.outputs.after_node_run(ctx, node=node, result=result)

    async def wrap_output_validate(self, ctx: RunContext[Any], *, handler: Any, **hook: Any) -> Any:  # noqa: ANN401
        """Have the judge validate the output."""
        if self.outputs is None:
            return await handler(hook["output"])
        return await self.outputs.wrap_output_validate(ctx, handler=handler, **hook)

    async def wrap_output_process(self, ctx: RunContext[Any], *, handler: Any, **hook: Any) -> Any:  # noqa: ANN401
        """Have the judge process the output."""
        if self.outputs is None:
            return await handler(hook["output"])
        return await self.outputs.wrap_output_process(ctx, handler=handler, **hook)
