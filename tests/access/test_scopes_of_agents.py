"""Scopes for single agents, such as ``agents:toolbox:run``: on routes with an agent in the path, and on Codegen's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.access.expected import Answer
from tests.access.route_table import AGENTOS, FOLLOW, RUN, message, scope_missing
from tests.support.caller import CODEGEN, body_of
from tests.support.server import Server, User, served
from tests.support.toolbox import JsonObject, plan

DELETE = plan([("delete_file", {"path": "a"})])
DENIED = "Access denied to run this agent"
OF_AGENT = sorted(route for route in AGENTOS if "{agent_id}" in route)
OF_RUN = ["resume", "pause", "ban", "remove-from-pr", "unban"]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    # The first agent, server, runs what comes through Codegen's API.
    async with served(tmp_path, tokens={}) as server:
        yield server


async def ask(person: User, route: str, agent: str, run_id: str) -> Answer:
    """Send a request to the route for the agent and this run; return what it says."""
    method, _, path = route.partition(" ")
    sent = {"message": "hello", "stream": "false"}
    filled = path.replace("{agent_id}", agent).replace("{run_id}", run_id)
    response = await person.request(method, filled, params={"session_id": "s"}, data=sent if method == "POST" else None)
    return Answer(response.status_code, None if response.is_success else response.json())


async def codegen_id(server: Server, run: JsonObject) -> int:
    """Return Codegen's number of the run."""
    rows = (await server.dump())["runs"]
    return int(next(row["id"] for row in rows if row["run_id"] == run["run_id"]))


@pytest.mark.parametrize("route", OF_AGENT)
async def test_a_scope_for_one_agent_opens_its_routes_and_no_others(server: Server, route: str) -> None:
    run = await (await server.add_user(1, "alice")).create(DELETE, session_id="s")
    row = AGENTOS[route]
    for action in ("run", "read"):
        if f"agents:{action}" not in row.scopes:
            continue
        right = await server.add_user(1, "alice", f"agents:toolbox:{action}")
        wrong = await server.add_user(1, "alice", f"agents:other:{action}")
        before = await server.lasting()
        refused = await ask(wrong, route, "toolbox", run["run_id"])
        # In the words of AgentOS, which looks at scopes before it looks at agents.
        assert refused == scope_missing("/", row.scopes[0])
        # What nobody may see is not said to be there or not.
        assert await ask(right, route, "nobody", run["run_id"]) == scope_missing("/", row.scopes[0])
        assert await server.lasting() == before
        found = await ask(right, route, "toolbox", run["run_id"])
        assert found.status in {200, 400}, "a continue without answers is refused for that"


@pytest.mark.parametrize("route", [route for route in OF_AGENT if AGENTOS[route].scopes == RUN])
async def test_who_may_only_read_an_agent_may_not_run_it(server: Server, route: str) -> None:
    run = await (await server.add_user(1, "alice")).create(DELETE, session_id="s")
    reader = await server.add_user(1, "alice", "agents:toolbox:read", "agents:read", "agents:other:read")
    async with server.nothing_changes():
        assert await ask(reader, route, "toolbox", run["run_id"]) == scope_missing("/", "agents:run")


@pytest.mark.parametrize("route", [route for route in OF_AGENT if "{run_id}" in route])
async def test_a_run_is_not_there_under_the_path_of_another_agent(server: Server, route: str) -> None:
    alice = await server.add_user(1, "alice", "agents:other:run", "agents:other:read")
    run = await (await server.add_user(1, "alice")).create(DELETE, session_id="s")
    async with server.nothing_changes():
        assert (await ask(alice, route, "other", run["run_id"])).status == 404


@pytest.mark.parametrize(
    ("scopes", "seen"),
    [
        (["agents:read"], ["toolbox", "other"]),
        (["agents:run"], ["toolbox", "other"]),
        (["agents:*:read"], ["toolbox", "other"]),
        (["agents:toolbox:read"], ["toolbox"]),
        (["agents:other:run"], ["other"]),
        (["agents:other:run", "agents:toolbox:read"], ["toolbox", "other"]),
        (["agents:nobody:run"], []),
        (["agent_os:admin"], ["toolbox", "other"]),
    ],
    ids=str,
)
async def test_the_list_of_agents_shows_those_that_the_caller_may_see(
    server: Server, scopes: list[str], seen: list[str]
) -> None:
    response = await (await server.add_user(1, "alice", *scopes)).get("/agents")
    assert response.status_code == 200
    assert [agent["id"] for agent in response.json()] == seen


async def test_the_list_of_agents_is_refused_to_who_may_see_none(server: Server) -> None:
    response = await (await server.add_user(1, "alice", "sessions:read")).get("/agents")
    scope_missing("/agents", FOLLOW[0]).compare(response, {})


async def test_through_codegen_a_run_is_made_by_an_agent_that_the_caller_may_run(server: Server) -> None:
    right, wrong = [await server.add_user(1, "alice", f"agents:{agent}:run") for agent in ("toolbox", "other")]
    async with server.nothing_changes():
        message(403, DENIED).compare(await wrong.post(CODEGEN, {"prompt": "hello"}), {})
    assert body_of(await right.post(CODEGEN, {"prompt": "hello"}))["status"] == "ACTIVE"
    await server.settle(1)


@pytest.mark.parametrize("action", OF_RUN)
async def test_through_codegen_a_run_is_changed_by_who_may_run_its_agent(server: Server, action: str) -> None:
    run = await (await server.add_user(1, "alice")).create(DELETE)
    right, wrong = [await server.add_user(1, "alice", f"agents:{agent}:run") for agent in ("toolbox", "other")]
    body = {"agent_run_id": await codegen_id(server, run), "prompt": "no"}
    async with server.nothing_changes():
        message(403, DENIED).compare(await wrong.post(f"{CODEGEN}/{action}", body), {})
    body_of(await right.post(f"{CODEGEN}/{action}", body))
    await server.settle(1)


async def test_through_codegen_reading_takes_the_scope_for_all_agents_because_lists_show_all(server: Server) -> None:
    run = await (await server.add_user(1, "alice")).create(DELETE)
    reader = await server.add_user(1, "alice", "agents:toolbox:read", "agents:toolbox:run")
    number = await codegen_id(server, run)
    for path in (f"{CODEGEN}s", f"{CODEGEN}/{number}", f"{CODEGEN}/{number}/logs"):
        scope_missing("/v1/", "agents:read").compare(await reader.get(path), {})
        for scope in ("agents:read", "agents:run"):
            assert (await (await server.add_user(1, "alice", scope)).get(path)).status_code == 200


async def test_config_read_is_the_newer_name_of_system_read(server: Server) -> None:
    for scope in ("config:read", "system:read"):
        assert (await (await server.add_user(1, "alice", scope)).get("/config")).status_code == 200
