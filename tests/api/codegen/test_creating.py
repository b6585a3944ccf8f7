"""What a run is created with: its model, its agent by repository or type, and how many there may be."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent
from sqlalchemy import update

from tests.support.caller import CODEGEN, confirmed
from tests.support.server import Server, served
from tests.support.serving import running
from tests.support.toolbox import JsonObject, plan, toolbox_agent
from unpause.errors import InvalidSetting
from unpause.store.tables import runs

DELETE = ("delete_file", {"path": "/a"})
LIMIT_REACHED = {
    "message": "Alloted agent runs for the current billing plan have been reached. "
    "Please upgrade your plan to continue.",
    "status_code": 402,
}


def three_agents() -> list[Agent[None, str]]:
    """Return the agents ``first``, the default one, ``ops`` and ``docs``."""
    return [toolbox_agent([], name=name) for name in ("first", "ops", "docs")]


def agent_of(run: JsonObject) -> str:
    """Return the id of the agent that runs it."""
    return str(run["web_url"]).split("/agents/")[1].split("/")[0]


@pytest.mark.parametrize(
    ("keys", "agent"),
    [
        ({}, "first"),
        ({"repo_id": None, "agent_type": None}, "first"),
        ({"repo_id": 12}, "ops"),
        ({"repo_id": 13}, "first"),
        ({"repo_id": -12}, "first"),
        ({"repo_id": 2**63 - 1}, "first"),
        ({"agent_type": "claude_code"}, "docs"),
        ({"agent_type": "codegen"}, "first"),
        ({"repo_id": 12, "agent_type": "claude_code"}, "ops"),
        ({"repo_id": 13, "agent_type": "claude_code"}, "docs"),
    ],
)
async def test_the_repository_chooses_the_agent_else_the_type_does(
    tmp_path: Path, keys: JsonObject, agent: str
) -> None:
    settings: JsonObject = {"repo_agents": ("12=ops", " 14 = docs "), "agent_types": ("claude_code=docs",)}
    async with served(tmp_path, *three_agents(), **settings) as server:
        made = await server.create_by_codegen("x", **keys)
        assert (agent_of(made), made["status"]) == (agent, "COMPLETE")


async def test_without_settings_repository_and_type_mean_the_default_agent(tmp_path: Path) -> None:
    async with served(tmp_path, *three_agents(), default_agent="docs") as server:
        assert agent_of(await server.create_by_codegen("x", repo_id=12, agent_type="claude_code")) == "docs"


async def test_a_number_that_no_repository_has_is_refused(server: Server) -> None:
    for repo_id in (2**63, -(2**63) - 1, 10**40):
        response = await server.post(CODEGEN, {"prompt": "x", "repo_id": repo_id})
        expected = {"message": f"repo_id {repo_id} is not the number of a repository", "status_code": 400}
        assert (response.status_code, response.json()) == (400, expected)
        assert (await server.dump())["runs"] == []


async def test_a_value_of_the_wrong_kind_is_a_422(server: Server) -> None:
    cases: list[tuple[str, object, str]] = [
        ("agent_type", "gemini", "literal_error"),
        ("agent_type", "", "literal_error"),
        ("agent_type", "CODEGEN", "literal_error"),
        ("repo_id", "many", "int_parsing"),
        ("repo_id", 1.5, "int_from_float"),
        ("repo_id", True, "int_type"),
        ("model", 5, "string_type"),
        ("webhooks", "http://x", "list_type"),
    ]
    for key, value, error in cases:
        response = await server.post(CODEGEN, {"prompt": "x", key: value})
        assert response.status_code == 422
        assert [(item["type"], item["loc"]) for item in response.json()["detail"]] == [(error, ["body", key])]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"repo_agents": ("12",)}, "'12' is not like NAME=AGENT"),
        ({"repo_agents": ("12=",)}, "'12=' is not like NAME=AGENT"),
        ({"repo_agents": ("=ops",)}, "'=ops' is not like NAME=AGENT"),
        ({"repo_agents": ("twelve=ops",)}, "'twelve' is not the number of a repository"),
        ({"repo_agents": ("²=ops",)}, "'²' is not the number of a repository"),
        ({"repo_agents": ("12=nobody",)}, "agent 'nobody' is not served here; served: first, ops, docs"),
        ({"repo_agents": ("12=ops", "12=docs")}, "'12' is named twice"),
        ({"repo_agents": ("12=ops", "012=docs")}, "repository 12 is named twice"),
        ({"agent_types": ("gemini=ops",)}, "'gemini' is no agent type; there are codegen and claude_code"),
        ({"agent_types": ("codegen=nobody",)}, "agent 'nobody' is not served here"),
        ({"agent_types": ("codegen",)}, "'codegen' is not like NAME=AGENT"),
    ],
)
async def test_a_choice_that_cannot_be_made_stops_the_server_at_its_start(
    tmp_path: Path, settings: JsonObject, words: str
) -> None:
    with pytest.raises(InvalidSetting, match=next(iter(settings))) as refused:
        async with served(tmp_path, *three_agents(), **settings):
            pass
    assert words in refused.value.message


async def test_a_chosen_model_runs_the_run_and_no_other(tmp_path: Path) -> None:
    async with served(tmp_path, models=("test",)) as server:
        chosen = await server.create_by_codegen(plan([("note", {"text": "x"})]), model="test")
        usual = await server.create_by_codegen(plan([("note", {"text": "x"})]))
        assert [await _model_of(server, run) for run in (chosen, usual)] == ["test", "planned-1"]
        assert chosen["status"] == "PAUSED"  # It calls every tool there is, and some need a confirmation.
        assert usual["status"] == "COMPLETE"


async def test_a_chosen_model_stays_over_a_pause(tmp_path: Path) -> None:
    async with served(tmp_path, models=("test",)) as server:
        chosen = await server.create_by_codegen("x", model="test")
        run = await server.read({"agent_id": "toolbox", "run_id": chosen["web_url"].rpartition("/")[2]})
        assert run["model"] == "test"
        response = await server.resume(chosen["id"], "no")
        # An administrator has to decide about the deployment first: the run is as it was.
        assert response.status_code == 403
        assert (await server.read(run))["model"] == "test"


@pytest.mark.parametrize("model", ["", "test:other", "TEST", "function:planned-2"])
async def test_a_model_that_is_not_allowed_is_refused_with_those_that_are(tmp_path: Path, model: str) -> None:
    async with served(tmp_path, models=("test",)) as server:
        paused = await server.create_by_codegen(plan([DELETE]))
        async with server.nothing_changes():
            for path, keys in (("", {}), ("/resume", {"agent_run_id": paused["id"]})):
                response = await server.post(CODEGEN + path, {"prompt": "x", "model": model, **keys})
                assert response.status_code == 400
                body = response.json()
                assert body["status_code"] == 400
                assert body["message"].startswith(f"Model {model!r} is not available here; available: ")
                assert "test" in body["message"]


async def test_the_agents_own_model_may_be_named(server: Server) -> None:
    models = (await server.get("/v1/organizations/1/models")).json()
    made = await server.create_by_codegen("x", model=models["default_model"])
    assert (made["status"], await _model_of(server, made)) == ("COMPLETE", "planned-1")


async def test_more_runs_than_the_limit_are_refused(tmp_path: Path) -> None:
    async with served(tmp_path, run_limit=2) as server:
        for _ in range(2):
            await server.create_by_codegen("x")
        async with server.nothing_changes():
            response = await server.post(CODEGEN, {"prompt": "x"})
            assert (response.status_code, response.json()) == (402, LIMIT_REACHED)
            response = await server.client.post("/agents/toolbox/runs", data={"message": "x", "stream": "false"})
            assert (response.status_code, response.json()) == (402, {"detail": LIMIT_REACHED["message"]})


async def test_a_limit_of_none_refuses_all(tmp_path: Path) -> None:
    async with served(tmp_path, run_limit=0) as server:
        assert (await server.post(CODEGEN, {"prompt": "x"})).status_code == 402


async def test_only_the_runs_of_thirty_days_count(tmp_path: Path) -> None:
    async with served(tmp_path, run_limit=1) as server:
        made = await server.create_by_codegen("x")
        await _move_back(server, timedelta(days=29, hours=23))
        assert (await server.post(CODEGEN, {"prompt": "x"})).status_code == 402
        await _move_back(server, timedelta(hours=2))
        again = await server.create_by_codegen("x")
        assert again["id"] > made["id"]


async def test_of_many_at_once_no_more_than_the_limit_get_through(tmp_path: Path) -> None:
    async with served(tmp_path, run_limit=3) as server:
        requested = [server.post(CODEGEN, {"prompt": "x"}) for _ in range(8)]
        statuses = sorted(response.status_code for response in await asyncio.gather(*requested))
        assert statuses == [200] * 3 + [402] * 5


async def test_a_repeated_request_is_answered_over_the_limit(tmp_path: Path) -> None:
    async with served(tmp_path, run_limit=1) as server:
        headers = {"Idempotency-Key": "k"}
        first = await server.client.post(CODEGEN, json={"prompt": "x"}, headers=headers)
        again = await server.client.post(CODEGEN, json={"prompt": "x"}, headers=headers)
        assert (again.status_code, again.json()) == (200, first.json())


async def test_a_paused_run_goes_on_over_the_limit(tmp_path: Path) -> None:
    async with served(tmp_path, run_limit=1) as server:
        run = await server.create([DELETE])
        done = await server.continued(run, [confirmed(run["tools"][0])])
        assert done["status"] == "COMPLETED"


async def test_a_run_without_an_agent_type_in_the_settings_needs_no_setting(tmp_path: Path) -> None:
    async with running(tmp_path, [toolbox_agent([])]) as application:
        assert application.agent_router.choose_agent(1, "codegen") == "toolbox"


async def _model_of(server: Server, run: JsonObject) -> str:
    shown = await server.read({"agent_id": "toolbox", "run_id": run["web_url"].rpartition("/")[2]})
    return str(shown["model"])


async def _move_back(server: Server, by: timedelta) -> None:
    def unit(connection: Any) -> None:  # noqa: ANN401 - SQLAlchemy's connection, which only the store names
        for key, at in connection.execute(runs.select().with_only_columns(runs.c.id, runs.c.created_at)).all():
            connection.execute(update(runs).where(runs.c.id == key).values(created_at=at - by))

    await server.application.database.write(unit)
