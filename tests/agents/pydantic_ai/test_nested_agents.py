"""The chapter about nested agents, executed: an inner agent's call is approved, and none that finished runs again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic_ai.messages import ModelMessage, ModelResponse, ModelResponsePart, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

from tests.agents.pydantic_ai.driving import driving
from tests.support.agents import Call, ScriptedModel, parts_of

_CHAPTER = Path(__file__).parents[3] / "docs" / "how-to" / "nested-agents.md"


def _chapter() -> dict[str, Any]:
    """Return what the chapter's module defines, with models that ask nobody."""
    (code,) = re.findall(r"```python\n(.*?)```", _CHAPTER.read_text(), re.DOTALL)
    names: dict[str, Any] = {"__name__": "chapter", "test_model": TestModel()}
    exec(compile(code.replace('"openai:gpt-5"', "test_model"), str(_CHAPTER), "exec"), names)  # noqa: S102 - our own
    return names


class Inner:
    """A model that makes its calls one after the other, and keeps what it was asked."""

    def __init__(self, *calls: ToolCallPart) -> None:
        self.requests: list[list[ModelMessage]] = []
        self._parts: list[ModelResponsePart] = [*calls, TextPart("tidy")]

    def answer(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        """Return the next part."""
        del info
        self.requests.append(messages)
        return ModelResponse([self._parts[len(self.requests) - 1]])


async def test_the_chapter_s_agents_ask_for_each_inner_call_and_repeat_none_after_restarts(tmp_path: Path) -> None:
    names = _chapter()
    inner = Inner(
        ToolCallPart("list_old_files"),
        ToolCallPart("delete_file", {"path": "a"}),
        ToolCallPart("delete_file", {"path": "b"}),
    )
    outer = ScriptedModel([Call("tidy_up", {"task": "clean"})], "All tidy.")
    names["cleaner"].model, names["housekeeper"].model = FunctionModel(inner.answer), outer.model
    reasons = []
    async with driving(tmp_path, names["housekeeper"]) as server:
        run = await server.run(agent="housekeeper")
    while run["status"] == "PAUSED":
        reasons.append(run["requirements"][-1]["message"])
        async with driving(tmp_path, names["housekeeper"]) as server:
            run = await server.confirm(run)
    assert (run["status"], run["content"]) == ("COMPLETED", "All tidy.")
    assert reasons == [f'the cleaner calls delete_file({{"path":"{name}"}})' for name in ("a", "b")]
    assert len(inner.requests) == 4
    results = [part.content for part in parts_of(inner.requests[-1], ToolReturnPart)]
    assert results == [["draft.txt"], "a is gone", "b is gone"]
