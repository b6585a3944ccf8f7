"""A call of one of the demo agent's tools by a scripted model, and what a workspace holds then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_ai import (
    DeferredToolRequests,
    DeferredToolResults,
    ModelMessage,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from unpause.agents.demo.agent import build_demo_agent

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_ai.output import OutputSpec

KINDS: OutputSpec[str | DeferredToolRequests] = [str, DeferredToolRequests]


@dataclass(frozen=True)
class Ended:
    """One call: how it ended, what the model was told, and the pause on the way if there was one."""

    outcome: str
    text: str
    paused: DeferredToolRequests | None


async def call(workspace: Path, tool: str, decision: object = None, **args: object) -> Ended:
    """Have a scripted model call one tool; answer its pause, if any, with `decision`."""

    def script(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        if any(isinstance(message, ModelResponse) for message in messages):
            return ModelResponse([TextPart("done")])
        return ModelResponse([ToolCallPart(tool, args, "c1")])

    agent = build_demo_agent(workspace, FunctionModel(script))
    result = await agent.run("go", output_type=KINDS)
    paused = result.output if isinstance(result.output, DeferredToolRequests) else None
    if paused and decision is not None:
        answers: dict[str, Any] = {"c1": decision}
        answer = DeferredToolResults(calls=answers) if paused.calls else DeferredToolResults(approvals=answers)
        messages = result.all_messages()
        result = await agent.run(output_type=KINDS, message_history=messages, deferred_tool_results=answer)
    returns = [part for m in result.all_messages() for part in m.parts if isinstance(part, ToolReturnPart)]
    last = returns[-1] if returns else None
    return Ended(last.outcome if last else "", str(last.content) if last else "", paused)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything under a folder: the bytes of each file, None for a folder or a link."""
    return {
        place.relative_to(folder).as_posix(): place.read_bytes() if place.is_file() and not place.is_symlink() else None
        for place in sorted(folder.rglob("*"))
    }
