"""Scopes for single agents, such as ``agents:office:run``: on routes with an agent in the path, and on Codegen's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.access.answers import Answer
from tests.access.guarded import Guarded, Person, guarded
from tests.access.route_table import AGENTOS, FOLLOW, RUN, message, scope_missing
from tests.support.office import JsonObject, body_of, plan

DELETE = plan([("delete_file", {"path": "a"})])
DENIED = "Access denied to run this agent"
CODEGEN = "/v1/organizations/1/agent/run"
OF_AGENT = sorted(route for route in AGENTOS if "{agent_id}" in route)
OF_RUN = ["resume", "pause", "ban", "remove-from-pr", "unban"]


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Guarded]:
    # The first agent, office, runs what comes through Codegen's API.
    async with guarded(tmp_path) as office:
        yield office


async def ask(person: Person, route: str, agent: str, run_id: str) -> Answer:
    """Send a request to the route for the agent and this run; return what it says."""
    method, _, path = route.partition(" ")
    sent = {"message": "hello", "stream": "false"}
    filled = path.replace("{agent_id}", agent).replace("{run_id}", run_id)
    response = await person.ask(method, filled, params={"session_id": "s"}, data=sent if method == "POST" else None)
    return Answer(response.status_code, None if response.is_success else response.json())


async def codegen_id(office: Guarded, run: JsonObject) -> int:
    """Return Codegen's number of the run."""
    rows = (await office.rows())["runs"]
    return int(next(row["id"] for row in rows if row["run_id"] == run["run_id"]))


@pytest.mark.parametrize("route", OF_AGENT)
async def test_a_scope_for_one_agent_opens_its_routes_and_no_others(office: Guarded, route: str) -> None:
    run = await (await office.person(1, "alice")).run(DELETE, session_id="s")
    row = AGENTOS[route]
    for action in ("run", "read"):
        if f"agents:{action}" not in row.scopes:
            continue
        right = await office.person(1, "alice", f"agents:office:{action}")
        wrong = await office.person(1, "alice", f"agents:parrot:{action}")
        before = await office.rows()
        refused = await ask(wrong, route, "office", run["run_id"])
        # In the words of AgentOS, which looks at scopes before it looks at agents.
        assert refused == scope_missing("/", row.scopes[0])
        # What nobody may see is not said to be there or not.
        assert await ask(right, route, "nobody", run["run_id"]) == scope_missing("/", row.scopes[0])
        assert await office.rows() == before
        found = await ask(right, route, "office", run["run_id"])
        assert found.status in {200, 400}, "a continue without answers is refused for that"


@pytest.mark.parametrize("route", [route for route in OF_AGENT if AGENTOS[route].scopes == RUN])
async def test_who_may_only_read_an_agent_may_not_run_it(office: Guarded, route: str) -> None:
    run = await (await office.person(1, "alice")).run(DELETE, session_id="s")
    reader = await office.person(1, "alice", "agents:office:read", "agents:read", "agents:parrot:read")
    before = await office.rows()
    assert await ask(reader, route, "office", run["run_id"]) == scope_missing("/", "agents:run")
    assert await office.rows() == before


@pytest.mark.parametrize("route", [route for route in OF_AGENT if "{run_id}" in route])
async def test_a_run_is_not_there_under_the_path_of_another_agent(office: Guarded, route: str) -> None:
    alice = await office.person(1, "alice", "agents:parrot:run", "agents:parrot:read")
    run = await (await office.person(1, "alice")).run(DELETE, session_id="s")
    before = await office.rows()
    assert (await ask(alice, route, "parrot", run["run_id"])).status == 404
    assert await office.rows() == before


@pytest.mark.parametrize(
    ("scopes", "seen"),
    [
        (["agents:read"], ["office", "parrot"]),
        (["agents:run"], ["office", "parrot"]),
        (["agents:*:read"], ["office", "parrot"]),
        (["agents:office:read"], ["office"]),
        (["agents:parrot:run"], ["parrot"]),
        (["agents:parrot:run", "agents:office:read"], ["office", "parrot"]),
        (["agents:nobody:run"], []),
        (["agent_os:admin"], ["office", "parrot"]),
    ],
    ids=str,
)
async def test_the_list_of_agents_shows_those_that_the_caller_may_see(
    office: Guarded, scopes: list[str], seen: list[str]
) -> None:
    response = await (await office.person(1, "alice", *scopes)).get("/agents")
    assert response.status_code == 200
    assert [agent["id"] for agent in response.json()] == seen


async def test_the_list_of_agents_is_refused_to_who_may_see_none(office: Guarded) -> None:
    response = await (await office.person(1, "alice", "sessions:read")).get("/agents")
    scope_missing("/agents", FOLLOW[0]).compare(response, {})


async def test_through_codegen_a_run_is_made_by_an_agent_that_the_caller_may_run(office: Guarded) -> None:
    right, wrong = [await office.person(1, "alice", f"agents:{agent}:run") for agent in ("office", "parrot")]
    before = await office.rows()
    message(403, DENIED).compare(await wrong.post(CODEGEN, {"prompt": "hello"}), {})
    assert await office.rows() == before
    assert body_of(await right.post(CODEGEN, {"prompt": "hello"}))["status"] == "ACTIVE"
    await office.settle(1)


@pytest.mark.parametrize("action", OF_RUN)
async def test_through_codegen_a_run_is_changed_by_who_may_run_its_agent(office: Guarded, action: str) -> None:
    run = await (await office.person(1, "alice")).run(DELETE)
    right, wrong = [await office.person(1, "alice", f"agents:{agent}:run") for agent in ("office", "parrot")]
    body = {"agent_run_id": await codegen_id(office, run), "prompt": "no"}
    before = await office.rows()
    message(403, DENIED).compare(await wrong.post(f"{CODEGEN}/{action}", body), {})
    assert await office.rows() == before
    body_of(await right.post(f"{CODEGEN}/{action}", body))
    await office.settle(1)


async def test_through_codegen_reading_takes_the_scope_for_all_agents_because_lists_show_all(office: Guarded) -> None:
    run = await (await office.person(1, "alice")).run(DELETE)
    reader = await office.person(1, "alice", "agents:office:read", "agents:office:run")
    number = await codegen_id(office, run)
    for path in (f"{CODEGEN}s", f"{CODEGEN}/{number}", f"{CODEGEN}/{number}/logs"):
        scope_missing("/v1/", "agents:read").compare(await reader.get(path), {})
        for scope in ("agents:read", "agents:run"):
            assert (await (await office.person(1, "alice", scope)).get(path)).status_code == 200


async def test_config_read_is_the_newer_name_of_system_read(office: Guarded) -> None:
    for scope in ("config:read", "system:read"):
        assert (await (await office.person(1, "alice", scope)).get("/config")).status_code == 200
