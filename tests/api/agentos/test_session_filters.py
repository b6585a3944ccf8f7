"""Sessions by type, by an empty name, in bulk, and with a client's own summary: as AgentOS 2.5.6 and 3.1.10 answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.caller import body_of
from tests.support.server import Server, served


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with served(tmp_path) as server:
        await server.create("hello", session_id="hers", user_id="ada")
        await server.create("hello", session_id="nobodys")
        yield server


async def ids(server: Server, **query: str) -> list[str]:
    listed = body_of(await server.client.get("/sessions", params=query))
    assert listed["meta"]["total_count"] == len(listed["data"])
    return sorted(item["session_id"] for item in listed["data"])


@pytest.mark.parametrize("other", ["team", "workflow"])
async def test_of_teams_and_workflows_there_are_no_sessions(server: Server, other: str) -> None:
    of_type = {"type": other}
    assert await ids(server, **of_type) == []
    assert await ids(server, type="agent") == ["hers", "nobodys"]
    client, name = server.client, {"session_name": "x"}
    answers = {
        f"{other.title()} Session with id 'hers' not found": await client.get("/sessions/hers", params=of_type),
        "Session with ID hers not found": await client.get("/sessions/hers/runs", params=of_type),
        "Session with id 'hers' not found": await client.patch("/sessions/hers", params=of_type, json=name),
    }
    for detail, answer in answers.items():
        assert (answer.status_code, answer.json()) == (404, {"detail": detail})
    assert (await client.post("/sessions/hers/rename", params=of_type, json=name)).status_code == 404
    assert (await client.post("/sessions", params=of_type, json={"session_id": "new"})).status_code == 400
    assert await ids(server) == ["hers", "nobodys"]


async def test_a_type_that_there_is_not_is_refused_everywhere(server: Server) -> None:
    client, bogus = server.client, {"type": "bogus"}
    for answer in (
        await client.get("/sessions", params=bogus),
        await client.post("/sessions", params=bogus, json={}),
        await client.get("/sessions/hers", params=bogus),
        await client.get("/sessions/hers/runs", params=bogus),
        await client.patch("/sessions/hers", params=bogus, json={}),
        await client.post("/sessions/hers/rename", params=bogus, json={"session_name": "x"}),
    ):
        assert answer.status_code == 422, answer.text
        assert answer.json()["detail"][0]["loc"] == ["query", "type"]


async def test_an_empty_user_or_agent_is_a_filter_that_finds_nothing(server: Server) -> None:
    client = server.client
    body_of(await client.post("/sessions", json={"session_id": "bare"}), 201)
    assert await ids(server, user_id="") == []
    assert await ids(server, component_id="") == []
    assert await ids(server, user_id="ada") == ["hers"]
    for name in ("hers", "nobodys"):
        assert (await client.get(f"/sessions/{name}", params={"user_id": ""})).status_code == 404
        assert (await client.delete(f"/sessions/{name}", params={"user_id": ""})).status_code == 204
    assert await ids(server) == ["bare", "hers", "nobodys"]


async def test_a_session_that_a_client_makes_has_no_agent_until_one_has_a_run_in_it(server: Server) -> None:
    made = body_of(await server.post("/sessions", {"session_id": "bare"}), 201)
    assert "agent_id" not in made
    await server.create("hello", session_id="bare")
    assert body_of(await server.get("/sessions/bare"))["agent_id"] == "toolbox"


async def test_a_summary_that_a_client_sets_is_kept(server: Server) -> None:
    summary = {"summary": "They said hello.", "topics": ["greetings"]}
    changed = body_of(await server.patch("/sessions/hers", {"summary": summary}))
    assert changed["session_summary"] == summary
    assert body_of(await server.get("/sessions/hers"))["session_summary"] == summary
    body_of(await server.patch("/sessions/hers", {"session_name": "x"}))
    assert body_of(await server.get("/sessions/hers"))["session_summary"] == summary


async def delete(server: Server, **body: object) -> httpx.Response:
    return await server.client.request("DELETE", "/sessions", json=body)


async def test_a_bulk_delete_names_the_type_of_each_session(server: Server) -> None:
    differs = await delete(server, session_ids=["hers", "nobodys"], session_types=["agent"])
    assert differs.status_code == 400
    assert differs.json() == {"detail": "Session IDs and session types must have the same length"}
    wrong: list[dict[str, object]] = [
        {"session_ids": ["hers"]},
        {"session_types": ["agent"]},
        {"session_ids": [], "session_types": []},
        {"session_ids": ["hers"], "session_types": []},
        {"session_ids": ["hers"], "session_types": ["bogus"]},
    ]
    for body in wrong:
        assert (await delete(server, **body)).status_code == 422, body
    assert await ids(server) == ["hers", "nobodys"]
    gone = await delete(server, session_ids=["hers", "nobodys"], session_types=["agent", "team"])
    assert gone.status_code == 204
    assert await ids(server) == ["nobodys"]
