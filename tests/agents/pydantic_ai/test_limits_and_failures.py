"""Runs that end in ERROR: used-up limits and failing models, in words that hold no secret."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic_ai import Agent, RunContext, Tool
from pydantic_ai.exceptions import ModelHTTPError, UnexpectedModelBehavior

from tests.agents.pydantic_ai.driving import driving, names
from tests.support.agents import Call, ScriptedModel

CODEGEN = "/v1/organizations/1/agent/run"
SECRETS = ("sk-live-abcdef1234567890", "planted-value-in-the-environment", "s3cr3t-p4ssw0rd", "ey.bearer.token-123")


def database_files(folder: Path) -> list[Path]:
    return list(folder.glob("unpause.db*"))


def _agent(script: ScriptedModel) -> Agent[None, str]:
    def act() -> str:
        """Act."""
        return "acted"

    return Agent(
        script.model, name="agent", tools=[Tool(act, name="free"), Tool(act, name="act", requires_approval=True)]
    )


async def test_too_many_model_requests_end_the_run_with_their_reason(tmp_path: Path) -> None:
    script = ScriptedModel(*[[Call("free")]] * 10)
    async with driving(tmp_path, _agent(script), request_limit=4) as server:
        events = await server.events()
        assert names(events)[-1] == "RunError"
        assert (events[-1]["content"], events[-1]["error_type"]) == (
            "The run reached its limit of 4 model requests",
            "usage_limit",
        )
        shown = (await server.get(f"{CODEGEN}/1")).json()
    assert shown["status"] == "MAX_ITERATIONS_REACHED"
    assert len(script.requests) == 4


async def test_the_limit_counts_through_all_pauses_of_a_run(tmp_path: Path) -> None:
    script = ScriptedModel(*[[Call("act")]] * 10)
    async with driving(tmp_path, _agent(script), request_limit=3) as server:
        run = await server.run()
        for _ in range(2):
            assert run["status"] == "PAUSED"
            run = await server.confirm(run)
        run = await server.confirm(run)
    assert (run["status"], len(script.requests)) == ("ERROR", 3)


async def test_too_many_tokens_end_the_run_with_their_reason(tmp_path: Path) -> None:
    script = ScriptedModel("word " * 500)
    async with driving(tmp_path, _agent(script), total_tokens_limit=100) as server:
        run = await server.run()
        shown = (await server.get(f"{CODEGEN}/1")).json()
    assert (run["status"], run["content"]) == ("ERROR", "The run used up its limit of 100 tokens")
    assert (shown["status"], shown["result"]) == ("OUT_OF_TOKENS", run["content"])


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(f"key {SECRETS[0]} is wrong"),
        ValueError(f"MY_API_KEY was {SECRETS[1]}!"),
        UnexpectedModelBehavior(f"Authorization: Bearer {SECRETS[3]}", body=SECRETS[0]),
        ModelHTTPError(401, "gpt", {"error": f"Incorrect API key provided: {SECRETS[0]} {SECRETS[1]}"}),
        ConnectionError(f"cannot reach https://user:{SECRETS[2]}@models.example/v1"),
        OSError(f"api_key={SECRETS[2]}&x=1"),
        KeyError(f'{{"password": "{SECRETS[2]}"}}'),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("resumed", [False, True])
async def test_a_failing_model_ends_the_run_as_an_error_without_any_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, *, resumed: bool
) -> None:
    monkeypatch.setenv("MY_API_KEY", SECRETS[1])
    script = ScriptedModel([Call("act")], error) if resumed else ScriptedModel(error)
    async with driving(tmp_path, _agent(script)) as server:
        if resumed:
            paused = (await server.events())[-1]
            answers = [{**tool, "confirmed": True} for tool in paused["tools"]]
            events = await server.events(paused, *answers)
        else:
            events = await server.events()
        assert names(events)[-2:] == ["ModelRequestStarted", "RunError"]
        shown = (await server.get(f"/agents/agent/runs/{events[0]['run_id']}")).text
        shown += (await server.get(f"{CODEGEN}/1")).text
    assert events[-1]["content"]
    reported = str(events) + shown
    for secret in SECRETS:
        assert secret not in reported
    stored = b"".join(file.read_bytes() for file in database_files(tmp_path))
    assert b"scripted-1" in stored
    for secret in SECRETS:
        assert secret.encode() not in stored


async def test_what_a_model_said_before_it_failed_stays_in_the_stream(tmp_path: Path) -> None:
    script = ScriptedModel(["Half a ", RuntimeError("gone")])
    async with driving(tmp_path, _agent(script)) as server:
        events = await server.events()
    assert names(events) == ["RunStarted", "ModelRequestStarted", "RunContent", "RunError"]
    assert [event["content"] for event in events[2:]] == ["Half a ", "gone"]


async def test_a_failed_run_does_not_stop_the_next(tmp_path: Path) -> None:
    script = ScriptedModel(RuntimeError("no"), "fine")
    async with driving(tmp_path, _agent(script)) as server:
        assert (await server.run())["status"] == "ERROR"
        assert (await server.run())["content"] == "fine"


async def test_what_a_run_used_is_counted_over_its_segments(tmp_path: Path) -> None:
    script = ScriptedModel([Call("act")], [Call("free")], "done")
    async with driving(tmp_path, _agent(script)) as server:
        run = await server.run()
        assert run["metrics"]["requests"] == 1
        done = await server.confirm(run)
    assert (done["metrics"]["requests"], done["metrics"]["tool_calls"]) == (3, 2)
    assert done["metrics"]["input_tokens"] > run["metrics"]["input_tokens"]


async def test_a_run_that_its_own_tool_ends_is_no_cancelled_one_and_no_failure_of_the_model(tmp_path: Path) -> None:
    async def stop(ctx: RunContext[None]) -> str:
        """End the run."""
        ctx.cancel()
        await asyncio.Event().wait()
        return "never"

    agent = Agent(ScriptedModel([Call("stop")]).model, name="agent", tools=[stop])
    async with driving(tmp_path, agent) as server:
        failed = (await server.events())[-1]
        assert (failed["event"], failed["error_type"]) == ("RunError", "agent_error")
        assert failed["content"] == "The agent's own code ended the run: The agent run was cancelled."
        assert (await server.run())["content"] == "done"
