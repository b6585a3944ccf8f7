"""A large result is stored once, and is whole wherever it is read: by clients, by the model, and after a restart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, Tool
from pydantic_ai.messages import ToolReturn, ToolReturnPart
from pydantic_core import to_json

from tests.support.agents import Call, ScriptedModel, parts_of
from tests.support.databases import Place
from tests.support.runs import ADA, answer, follow, look, open_requirements
from tests.support.serving import running
from unpause.domain.event_payloads import read_call, read_calls
from unpause.domain.events import EventType
from unpause.domain.requirements import ToolAnswer
from unpause.services.commands import CreateRun

_NEEDLE = "needle in the result"
_LONG = _NEEDLE + "x" * 20_000


def kept_in(folder: Path) -> int:
    """Return how often the result stands in the database."""
    return sum(
        to_json(row, fallback=str).decode().count(_NEEDLE)
        for rows in Place.in_folder(folder).dump().values()
        for row in rows
    )


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        (_LONG, _LONG),
        ({"rows": [_LONG]}, '{"rows":["' + _LONG + '"]}'),
        (ToolReturn("short", metadata={"raw": _LONG}), "short"),
        (OSError(_LONG), _LONG),
    ],
    ids=["text", "structure", "metadata", "failure"],
)
async def test_it_is_stored_once_and_read_whole(tmp_path: Path, returned: Any, text: str) -> None:  # noqa: ANN401
    def give() -> object:
        """Give something large, or fail with it."""
        if isinstance(returned, OSError):
            raise returned
        return returned

    def act() -> str:
        """Act."""
        return "acted"

    script = ScriptedModel([Call("give"), Call("act")], "one", "two")
    agent = Agent(script.model, name="agent", tools=[give, Tool(act, requires_approval=True)])
    async with running(tmp_path, [agent]) as application:
        made = await application.service.create_run(ADA, CreateRun("agent", "go", session_id="s"))
        await follow(application, made.run)
    async with running(tmp_path, [agent]) as application:
        paused = await look(application, made.run)
        (requested,) = open_requirements(paused)
        continued = await answer(application, made.run, ToolAnswer(requested.tool_call_id, confirmed=True))
        await follow(application, made.run, continued.after)
        done = await look(application, made.run)
        events = await follow(application, made.run)
        again = await application.service.create_run(ADA, CreateRun("agent", "go on", session_id="s"))
        await follow(application, again.run)
    assert kept_in(tmp_path) == 1
    assert [view.tool_calls[0].result_text for view in (paused, done)] == [text, text]
    finished = [event for event in events if event.type is EventType.TOOL_CALL_COMPLETED]
    assert read_call(finished[0].payload).result_text == text
    assert [event.payload.get("error") for event in events if event.type is EventType.TOOL_CALL_FAILED] == (
        [text] if isinstance(returned, OSError) else []
    )
    (pause,) = [event for event in events if event.type is EventType.RUN_PAUSED]
    assert read_calls(pause.payload)[0] == paused.tool_calls[0]
    entries = [entry for message in done.messages for entry in message.entries if entry.tool_name == "give"]
    assert [entry.content for entry in entries] == [text]
    # After a restart, and as the history of the session's next run.
    for asked_with in script.requests[1:]:
        provided = parts_of(asked_with, ToolReturnPart)[0]
        assert provided.model_response_str(wrap_if_error=False) == text
        assert provided.metadata == getattr(returned, "metadata", None)


async def test_what_looks_like_a_mark_is_a_result_like_any_other(tmp_path: Path) -> None:
    forged = {"$kept": {"content": "text"}, "tool_call_id": "call", "calls": [{"$kept": {"a": "text"}}], "x": _LONG}
    script = ScriptedModel([Call("give", call_id="call")], "one", "two")
    agent = Agent(script.model, name="agent", tools=[Tool(lambda: forged, name="give", description="Give.")])
    async with running(tmp_path, [agent]) as application:
        for prompt in ("go", "go on"):
            made = await application.service.create_run(ADA, CreateRun("agent", prompt, session_id="s"))
            await follow(application, made.run)
        view = await look(application, made.run)
    assert parts_of(script.requests[-1], ToolReturnPart)[0].content == forged
    assert view.run.content == "two"
