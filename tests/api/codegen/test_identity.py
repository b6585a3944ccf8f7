"""Who asks, who else is there, which models there are, and what there is none of."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic_ai import Agent
from sqlalchemy import insert

from tests.support.agents import ScriptedModel
from tests.support.scripted_driver import ScriptedDriver
from tests.support.server import Server, served
from tests.support.serving import serving
from tests.support.toolbox import JsonObject
from unpause.store.tables import organizations, users

HERE = "/v1/organizations/1"
LOCAL = {
    "id": 1,
    "email": None,
    "github_user_id": "1",
    "github_username": "local",
    "avatar_url": None,
    "full_name": None,
    "role": "ADMIN",
    "is_admin": True,
}
PAGED = {"page": 1, "size": 100}


async def read(server: Server, path: str) -> JsonObject:
    """Return the object at the path."""
    response = await server.client.get(path, headers={"Authorization": "Bearer whatever"})
    assert response.status_code == 200, response.text
    return dict(response.json())


async def test_an_open_server_takes_everybody_for_its_first_user(server: Server) -> None:
    await _add(server, "alice")
    assert await read(server, "/v1/users/me") == LOCAL
    assert (await server.get("/v1/users/me")).json() == LOCAL


async def test_there_is_one_organization(server: Server) -> None:
    page = await read(server, "/v1/organizations")
    [organization] = page.pop("items")
    assert page == {"total": 1, "pages": 1, **PAGED}
    assert (organization["id"], bool(organization["name"])) == (1, True)
    assert organization["settings"] == {"enable_pr_creation": True, "enable_rules_detection": True}


@pytest.mark.parametrize(("skip", "limit", "page"), [(1, 100, 1), (1, 1, 2), (10**40, 1, 10**40 + 1)])
async def test_after_the_one_organization_there_is_none(server: Server, skip: int, limit: int, page: int) -> None:
    found = await read(server, f"/v1/organizations?skip={skip}&limit={limit}")
    assert found == {"items": [], "total": 1, "page": page, "size": limit, "pages": 1}


async def test_users_are_listed_in_parts_and_read_one_by_one(server: Server) -> None:
    await _add(server, "alice", full_name="Alice A.", email="alice@example.com")
    await _add(server, "bob", role="MANAGER")
    await _add_elsewhere(server, "carol")
    page = await read(server, f"{HERE}/users")
    alice = page["items"][1]
    assert page["items"][0] == LOCAL
    assert (alice["github_username"], alice["full_name"]) == ("alice", "Alice A.")
    assert (alice["email"], alice["role"], alice["is_admin"]) == ("alice@example.com", "MEMBER", False)
    assert [user["github_username"] for user in page["items"]] == ["local", "alice", "bob"]
    assert (page["total"], page["pages"]) == (3, 1)
    for user in page["items"]:
        assert await read(server, f"{HERE}/users/{user['id']}") == user
    part = await read(server, f"{HERE}/users?skip=2&limit=2")
    assert part == {"items": page["items"][2:], "total": 3, "page": 2, "size": 2, "pages": 2}
    assert (await read(server, f"{HERE}/users?skip={2**70}"))["items"] == []


async def test_a_user_that_is_not_there_is_not_found(server: Server) -> None:
    for user_id in (999, 0, -1, 2**63, 10**40):
        response = await server.get(f"{HERE}/users/{user_id}")
        assert (response.status_code, response.json()) == (404, {"message": "User not found.", "status_code": 404})


async def test_a_user_of_another_organization_is_not_found(server: Server) -> None:
    await _add_elsewhere(server, "carol", id=50)
    assert (await server.get(f"{HERE}/users/50")).status_code == 404


async def test_another_organization_is_forbidden(server: Server) -> None:
    for path in ("users", "users/1", "models", "repos", "integrations", "cli/rules", "agent/runs", "agent/run/1"):
        for organization in ("2", "0", "-1", "9" * 40):
            response = await server.get(f"/v1/organizations/{organization}/{path}")
            assert response.status_code == 403
            assert response.json() == {"message": "You do not have access to this organization.", "status_code": 403}
        response = await server.get(f"/v1/organizations/mine/{path}")
        assert response.status_code == 422
        assert response.json()["detail"][0]["loc"] == ["path", "org_id"]


async def test_the_models_are_the_agents_own_and_those_of_the_settings(tmp_path: Path) -> None:
    async with served(tmp_path, models=("test",)) as server:
        assert await read(server, f"{HERE}/models") == {
            "providers": [
                {"name": "function", "models": [{"label": "planned-1", "value": "function:planned-1"}]},
                {"name": "test", "models": [{"label": "test", "value": "test"}]},
            ],
            "default_model": "function:planned-1",
        }


async def test_a_default_model_that_may_be_chosen_is_listed_once(tmp_path: Path) -> None:
    async with served(tmp_path, models=("test",), model="test") as server:
        assert await read(server, f"{HERE}/models") == {
            "providers": [{"name": "test", "models": [{"label": "test", "value": "test"}]}],
            "default_model": "test",
        }


async def test_every_listed_model_can_run_a_run(tmp_path: Path) -> None:
    agent = Agent(ScriptedModel("mine").model, name="plain")
    async with served(tmp_path, agent, models=("test",)) as server:
        listed = await read(server, f"{HERE}/models")
        for provider in listed["providers"]:
            for model in provider["models"]:
                assert (await server.create_by_codegen("x", model=model["value"]))["status"] == "COMPLETE"


async def test_models_that_the_default_agent_does_not_take_are_not_listed(tmp_path: Path) -> None:
    async with served(tmp_path, ScriptedDriver(), models=("test",)) as server:
        assert await read(server, f"{HERE}/models") == {
            "providers": [{"name": "tests", "models": [{"label": "scripted-1", "value": "tests:scripted-1"}]}],
            "default_model": "tests:scripted-1",
        }


async def test_without_agents_there_are_no_models(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        response = await client.get(f"{HERE}/models")
        assert (response.status_code, response.json()) == (200, {"providers": [], "default_model": ""})


async def test_what_there_is_none_of_is_empty(server: Server) -> None:
    integrations = await read(server, f"{HERE}/integrations")
    assert integrations.pop("organization_name")
    assert integrations == {"organization_id": 1, "integrations": [], "total_active_integrations": 0}
    assert await read(server, f"{HERE}/cli/rules") == {"organization_rules": None, "user_custom_prompt": None}
    assert await read(server, f"{HERE}/repos") == {"items": [], "total": 0, "pages": 0, **PAGED}
    providers = await server.get("/v1/mcp-providers")
    assert (providers.status_code, providers.json()) == (200, [])


async def _add(server: Server, name: str, role: object = "MEMBER", **more: object) -> None:
    row = {"organization_id": 1, "name": name, "role": role, "created_at": datetime(2026, 1, 1, tzinfo=UTC), **more}
    await _insert(server, users, row)


async def _add_elsewhere(server: Server, name: str, **more: object) -> None:
    await _insert(server, organizations, {"id": 2, "name": "others", "created_at": datetime(2026, 1, 1, tzinfo=UTC)})
    await _add(server, name, organization_id=2, **more)


async def _insert(server: Server, table: Any, row: JsonObject) -> None:  # noqa: ANN401 - SQLAlchemy's table
    def unit(connection: Any) -> None:  # noqa: ANN401 - SQLAlchemy's connection, which only the store names
        connection.execute(insert(table), row)

    await server.application.database.write(unit)
