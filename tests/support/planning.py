"""A model whose answers are plans that a test wrote down, and checkouts of repositories to plan for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from pydantic_ai import Agent
from pydantic_ai.messages import BinaryContent, ModelMessage, ModelRequest, ModelResponse, ToolCallPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

PlanTurn: TypeAlias = Sequence[str] | dict[str, Any] | Exception
REPOSITORY = 12


class PlanningModel:
    """Gives the plans in order, whoever asks, and keeps what it was asked. A list of commands is a plan of them."""

    def __init__(self, *plans: PlanTurn) -> None:
        self._plans = list(plans)
        self.prompts: list[str] = []
        self.pictures: list[bytes] = []

    def agent(self) -> Agent[None, str]:
        """Return an agent that has this model as its own."""
        return Agent(FunctionModel(self._answer, model_name="planning-1"), name="ops")

    def next_plan(self) -> PlanTurn:
        """Return what is answered next."""
        return self._plans.pop(0)

    def _answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self._note(messages[-1])
        plan = self.next_plan()
        if isinstance(plan, Exception):
            raise plan
        answer = plan if isinstance(plan, dict) else {"commands": list(plan)}
        return ModelResponse([ToolCallPart(info.output_tools[0].name, answer)])

    def _note(self, message: ModelMessage) -> None:
        assert isinstance(message, ModelRequest)
        for part in message.parts:
            if isinstance(part, UserPromptPart):
                pieces = [part.content] if isinstance(part.content, str) else part.content
                self.prompts.append("\n".join(piece for piece in pieces if isinstance(piece, str)))
                self.pictures.extend(piece.data for piece in pieces if isinstance(piece, BinaryContent))


def make_checkout(root: Path, **files: str) -> Path:
    """Make the checkout of the repository, with these files; a name's double underscore is a dot."""
    folder = root / str(REPOSITORY)
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")
    return folder
