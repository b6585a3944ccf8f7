"""A run that failed keeps what its model was sent; the log, and administrators with the run, say where it failed."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent, ModelRetry, RunContext, Tool
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.usage import UsageLimits

from tests.agents.pydantic_ai.driving import driving
from tests.support.agents import Call, ScriptedModel
from tests.support.toolbox import JsonObject
from unpause.agents.redaction import Redaction
from unpause.auth.tokens import NewToken, create_token
from unpause.bootstrap import Application
from unpause.cli.logs import configure_logging
from unpause.domain.principal import Principal
from unpause.domain.scopes import ADMIN, DEFAULT_SCOPES
from unpause.testing.environment import log_plainly

CODEGEN = "/v1/organizations/1/agent/run"
KEY = "planted-value-in-the-environment"


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[JsonObject]]]:
    """Log as a server does; return the lines with an exception."""
    root, written = logging.getLogger(), io.StringIO()
    level = root.level
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(sys, "stderr", written)
    monkeypatch.setenv("SOME_API_KEY", KEY)
    configure_logging(Redaction({"SOME_API_KEY": KEY}), readable=False)
    yield lambda: [line for line in map(json.loads, written.getvalue().splitlines()) if "exception" in line]
    assert KEY not in written.getvalue()
    log_plainly()
    root.setLevel(level)


def crash(ctx: RunContext[Any]) -> str:
    """Fail as a program does that shows what it was given."""
    raise RuntimeError(f"no {KEY} for {ctx.prompt}")


def crash_over(ctx: RunContext[Any], text: str) -> str:
    """Fail over an output."""
    return text + crash(ctx)


async def crash_later(ctx: RunContext[Any]) -> str:
    """Fail in a coroutine."""
    await asyncio.sleep(0)
    return crash(ctx)


def retry() -> str:
    """Ask the model to try again."""
    raise ModelRetry("not like this")


def stored_in(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.glob("unpause.db*"))


async def signed_in(application: Application, *scopes: str) -> dict[str, str]:
    requested, now = NewToken(scopes=scopes), application.clock.now()
    _, text = await application.database.write(
        lambda connection: create_token(connection, requested, Principal(1), now)
    )
    return {"Authorization": f"Bearer {text}"}


def note(text: str) -> str:
    """Note it."""
    return f"noted {text}"


def sent(run: JsonObject) -> list[tuple[str, str | None]]:
    return [(message["role"], message.get("content")) for message in run["messages"]]


async def test_a_tool_that_fails_leaves_one_record_and_the_run_goes_on(
    tmp_path: Path, logged: Callable[[], list[JsonObject]]
) -> None:
    script = ScriptedModel([Call("crash")], [Call("crash_later")], [Call("retry")], "done")
    async with driving(tmp_path, Agent(script.model, name="agent", tools=[crash, crash_later, retry])) as server:
        run = await server.run("the harbour")
    assert run["status"] == "COMPLETED"
    assert "traceback" not in run
    records = logged()
    assert [record["tool"] for record in records] == ["crash", "crash_later"]
    for record in records:
        assert (record["run_id"], record["agent"], record["level"]) == (run["run_id"], "agent", "warning")
        assert record["node"]
        assert "RuntimeError: no [hidden] for the harbour" in record["exception"]
        assert record["exception"].startswith("Traceback")
    assert KEY not in json.dumps(records)


@pytest.mark.parametrize("failing", ["request", "stream", "instructions", "output", "second request"])
async def test_a_run_that_fails_keeps_what_its_model_was_sent_and_leaves_one_record(
    tmp_path: Path, logged: Callable[[], list[JsonObject]], failing: str
) -> None:
    error = RuntimeError(f"no {KEY}")
    turns: dict[str, list[Any]] = {
        "request": [error],
        "stream": [["half ", error]],
        "second request": [[Call("note", {"text": "a"})], error],
    }
    script = ScriptedModel(*turns.get(failing, ["fine"]))
    agent = Agent(script.model, name="agent", instructions=crash if failing == "instructions" else None)
    agent.tool_plain(note)
    if failing == "output":
        agent.output_validator(crash_over)
    async with driving(tmp_path, agent) as server:
        run = await server.run("hello")
    assert run["status"] == "ERROR"
    expected: dict[str, list[tuple[str, str | None]]] = {
        "stream": [("user", "hello"), ("assistant", "half ")],
        "output": [("user", "hello"), ("assistant", "fine")],
        "second request": [("user", "hello"), ("assistant", None), ("tool", "noted a")],
    }
    assert sent(run) == expected.get(failing, [("user", "hello")])
    (record,) = logged()
    assert (record["run_id"], record["agent"], record["level"]) == (run["run_id"], "agent", "error")
    assert run["traceback"] == record["exception"]
    assert run["traceback"].startswith("Traceback")
    assert f"no {KEY}".replace(KEY, "[hidden]") in run["traceback"]
    assert KEY.encode() not in stored_in(tmp_path)


async def test_a_run_that_fails_after_a_pause_keeps_the_turns_before_it(tmp_path: Path) -> None:
    script = ScriptedModel([Call("act", call_id="c1")], RuntimeError("gone"))
    agent = Agent(script.model, name="agent", tools=[Tool(lambda: "acted", name="act", requires_approval=True)])
    async with driving(tmp_path, agent) as server:
        run = await server.confirm(await server.run("hello"))
    assert (run["status"], sent(run)) == ("ERROR", [("user", "hello"), ("assistant", None), ("tool", "acted")])


async def test_only_administrators_see_the_traceback_of_a_run(tmp_path: Path) -> None:
    script = ScriptedModel(RuntimeError("gone"))
    async with driving(tmp_path, Agent(script.model, name="agent"), dev=False) as server:
        headers = {
            "admin": await signed_in(server.application, ADMIN),
            "user": await signed_in(server.application, *DEFAULT_SCOPES),
        }
        data = {"message": "hello", "stream": "false", "session_id": "s"}
        made = (await server.client.post("/agents/agent/runs", data=data, headers=headers["user"])).json()
        paths = [
            f"/agents/agent/runs/{made['run_id']}",
            "/agents/agent/runs?session_id=s",
            "/sessions/s/runs",
            f"/sessions/s/runs/{made['run_id']}",
            f"{CODEGEN}/1",
        ]
        shown = {
            name: [(await server.client.get(path, headers=headers[name])).text for path in paths] for name in headers
        }
        events = (await server.client.get(f"{paths[0]}/events", headers=headers["admin"])).text
    assert made["status"] == "ERROR"
    assert "traceback" not in made
    for path, to_admin, to_user in zip(paths, shown["admin"], shown["user"], strict=True):
        assert "RuntimeError: gone" in to_admin, path
        assert made["run_id"] in to_user, path
        assert "Traceback" not in to_user, path
    assert "Traceback" not in events


async def test_a_limit_that_a_tools_own_agent_has_set_is_not_said_to_be_the_runs(tmp_path: Path) -> None:
    async def loquacious(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str]:
        del messages, info
        yield "word " * 50

    inner = Agent(FunctionModel(stream_function=loquacious, function=_speak), name="inner")
    limits = {
        "own": UsageLimits(output_tokens_limit=10),
        "requests": UsageLimits(request_limit=0),
        "calls": UsageLimits(total_tokens_limit=7),
    }

    async def research(ctx: RunContext[Any]) -> str:
        """Ask another agent."""
        which = str(ctx.prompt)
        shared = ctx.usage_limits if which == "the run's" else limits[which]
        return (await inner.run("go", usage=ctx.usage, usage_limits=shared)).output

    ended: dict[str, JsonObject] = {}
    for which in (*limits, "the run's"):
        script = ScriptedModel([Call("research")])
        agent = Agent(script.model, name="agent", tools=[research])
        # As many as were made when the tool runs, so that numbers alone could not tell whose limit was reached.
        async with driving(tmp_path, agent, request_limit=1) as server:
            run = await server.run(which)
            shown = (await server.get(f"{CODEGEN}/{len(ended) + 1}")).json()
        ended[which] = {**run, "codegen": shown["status"]}
    for which, words in {
        "own": "output_tokens_limit of 10",
        "requests": "request_limit of 0",
        "calls": "total_tokens_limit of 7",
    }.items():
        assert ended[which]["content"].startswith("Tool research reached a limit of its own: ")
        assert words in ended[which]["content"]
        assert "None" not in ended[which]["content"]
        assert ended[which]["codegen"] == "ERROR"
    own = ended["the run's"]
    assert (own["content"], own["codegen"]) == (
        "The run reached its limit of 1 model requests",
        "MAX_ITERATIONS_REACHED",
    )


async def _speak(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    del messages, info
    return ModelResponse([TextPart("word " * 50)])
