"""The list of an organization's runs: its order, its pages and its filters."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, Update, insert, update

from tests.support.caller import CODEGEN
from tests.support.server import Server
from tests.support.toolbox import JsonObject, plan
from unpause.store.tables import organizations, runs, users

LIST = f"{CODEGEN}s"
NOTHING = {"items": [], "total": 0, "page": 1, "size": 100, "pages": 0}


async def listed(server: Server, **requested: object) -> JsonObject:
    """Return the page that is asked for."""
    response = await server.client.get(LIST, params={key: str(value) for key, value in requested.items()})
    assert response.status_code == 200, response.text
    return dict(response.json())


async def test_runs_are_listed_newest_first_as_they_are_read_one_by_one(server: Server) -> None:
    made = [
        await server.create_by_codegen("x", metadata={"n": 1}),
        await server.create_by_codegen(plan([("delete_file", {"path": "/a"})])),
        await server.create_by_codegen("[[["),
    ]
    # Only who reads the one run is shown where it failed.
    assert made[2].pop("traceback")
    page = await listed(server)
    assert page == {"items": made[::-1], "total": 3, "page": 1, "size": 100, "pages": 1}
    assert [item["status"] for item in page["items"]] == ["ERROR", "PAUSED", "COMPLETE"]
    for item in page["items"]:
        assert datetime.fromisoformat(item["created_at"]).tzinfo is not None
        assert item["github_pull_requests"] == []


async def test_no_runs_are_an_empty_page(server: Server) -> None:
    assert await listed(server) == NOTHING


async def test_a_page_is_what_skip_and_limit_leave(server: Server) -> None:
    cases: list[tuple[JsonObject, list[str], int, int]] = [
        ({"limit": 2}, ["4", "3"], 1, 3),
        ({"limit": 2, "skip": 2}, ["2", "1"], 2, 3),
        ({"limit": 2, "skip": 4}, ["0"], 3, 3),
        ({"limit": 2, "skip": 1}, ["3", "2"], 1, 3),
        ({"limit": 2, "skip": 5}, [], 3, 3),
        ({"limit": 2, "skip": 6}, [], 4, 3),
        ({"limit": 5}, ["4", "3", "2", "1", "0"], 1, 1),
        ({"limit": 100, "skip": 4}, ["0"], 1, 1),
        ({"limit": 1, "skip": 4}, ["0"], 5, 5),
        ({"limit": 1, "skip": 2**63}, [], 2**63 + 1, 5),
        ({"limit": 3, "skip": 10**40}, [], 10**40 // 3 + 1, 2),
    ]
    for number in range(5):
        await server.create_by_codegen(str(number))
    for requested, summaries, page, pages in cases:
        found = await listed(server, **requested)
        assert [item["summary"] for item in found["items"]] == summaries
        numbers = (found["total"], found["size"], found["page"], found["pages"])
        assert numbers == (5, requested["limit"], page, pages)


async def test_a_parameter_that_does_not_fit_is_a_422(server: Server) -> None:
    cases: list[tuple[JsonObject, str]] = [
        ({"skip": -1}, "skip"),
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"user_id": "me"}, "user_id"),
        ({"source_type": "EMAIL"}, "source_type"),
        ({"source_type": "api"}, "source_type"),
    ]
    for requested, place in cases:
        response = await server.client.get(LIST, params=requested)
        assert response.status_code == 422
        assert [item["loc"] for item in response.json()["detail"]] == [["query", place]]


async def test_parameters_that_are_not_known_are_ignored(server: Server) -> None:
    await server.create_by_codegen("x")
    assert (await listed(server, page=7, size=50, state="PAUSED"))["total"] == 1


async def test_a_source_keeps_the_runs_from_elsewhere_out(server: Server) -> None:
    first, second = [await server.create_by_codegen("x") for _ in range(2)]
    await _change(server, update(runs).where(runs.c.id == first["id"]).values(source_type="SETUP_COMMANDS"))
    assert [item["id"] for item in (await listed(server, source_type="API"))["items"]] == [second["id"]]
    prepared = await listed(server, source_type="SETUP_COMMANDS")
    assert [(item["id"], item["source_type"]) for item in prepared["items"]] == [(first["id"], "SETUP_COMMANDS")]
    assert await listed(server, source_type="SLACK") == NOTHING


async def test_runs_of_nobody_belong_to_the_first_user_of_an_open_server(server: Server) -> None:
    await _change(server, insert(users), _user("alice"), _user("bob"))
    nobodys = await server.create_by_codegen("x")
    alices = await server.key_of(await server.create(user_id="alice"))
    locals_ = await server.key_of(await server.create(user_id="local"))
    ids = {user["github_username"]: user["id"] for user in await _users(server)}
    assert await _keys(server, user_id=ids["local"]) == [locals_, nobodys["id"]]
    assert await _keys(server, user_id=ids["alice"]) == [alices]
    assert await _keys(server, user_id=ids["bob"]) == []
    assert await _keys(server) == [locals_, alices, nobodys["id"]]
    page = await listed(server, user_id=ids["local"], source_type="API", limit=1, skip=1)
    assert ([item["id"] for item in page["items"]], page["total"], page["page"]) == ([nobodys["id"]], 2, 2)


async def test_a_user_that_does_not_exist_has_no_runs(server: Server) -> None:
    for user_id in (999, 0, -1, 2**63 - 1, 2**63, 10**40):
        await server.create_by_codegen("x")
        assert await listed(server, user_id=user_id) == NOTHING


async def test_runs_and_users_of_another_organization_are_not_seen(server: Server) -> None:
    await _change(
        server, insert(organizations), {"id": 2, "name": "others", "created_at": datetime(2026, 1, 1, tzinfo=UTC)}
    )
    await _change(server, insert(users), _user("carol", 2, id=50))
    mine, other = [await server.create_by_codegen("x") for _ in range(2)]
    await _change(server, update(runs).where(runs.c.id == other["id"]).values(organization_id=2, user_id="carol"))
    assert await _keys(server) == [mine["id"]]
    assert await _keys(server, user_id=50) == []
    response = await server.get("/v1/organizations/2/agent/runs")
    assert (response.status_code, response.json()) == (
        403,
        {"message": "You do not have access to this organization.", "status_code": 403},
    )


async def _keys(server: Server, **requested: object) -> list[int]:
    return [item["id"] for item in (await listed(server, **requested))["items"]]


async def _users(server: Server) -> list[JsonObject]:
    response = await server.get("/v1/organizations/1/users")
    items: list[JsonObject] = response.json()["items"]
    return items


def _user(name: str, organization_id: int = 1, **more: object) -> JsonObject:
    made = {"organization_id": organization_id, "name": name, "role": "MEMBER"}
    return {**made, "created_at": datetime(2026, 1, 1, tzinfo=UTC), **more}


async def _change(server: Server, statement: Any, *rows: JsonObject) -> None:  # noqa: ANN401 - SQLAlchemy's statements
    def unit(connection: Any) -> None:  # noqa: ANN401 - SQLAlchemy's connection, which only the store names
        connection.execute(statement, list(rows) or None)

    await server.application.database.write(unit)


def _execute(statement: Update, connection: Connection) -> None:
    connection.execute(statement)


async def test_runs_are_listed_by_the_status_that_they_are_shown_with(server: Server) -> None:
    made = {
        "COMPLETE": await server.create_by_codegen("x"),
        "PAUSED": await server.create_by_codegen(plan([("delete_file", {"path": "/a"})])),
        "ERROR": await server.create_by_codegen("[[["),
    }
    ended = {"CANCELLED": "expired", "ERROR": "usage_limit"}
    for status, reason in ended.items():
        run = await server.create_by_codegen("x")
        values = {"status": status, "end_reason": reason}
        statement = update(runs).where(runs.c.id == run["id"]).values(values)
        await server.application.database.write(partial(_execute, statement))
        made[{"expired": "TIMEOUT", "usage_limit": "MAX_ITERATIONS_REACHED"}[reason]] = run

    for status in ("ACTIVE", "PAUSED", "COMPLETE", "ERROR", "CANCELLED", "TIMEOUT", "MAX_ITERATIONS_REACHED"):
        page = await listed(server, status=status)
        assert [item["id"] for item in page["items"]] == ([made[status]["id"]] if status in made else []), status
        assert {item["status"] for item in page["items"]} <= {status}
    assert (await server.client.get(LIST, params={"status": "paused"})).status_code == 422
