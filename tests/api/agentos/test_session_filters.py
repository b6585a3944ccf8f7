"""Sessions by type, by an empty name, in bulk, and with a client's own summary: as AgentOS 2.5.6 and 3.1.10 answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.office import Office, at_office, body_of


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with at_office(tmp_path) as office:
        await office.create("hello", session_id="hers", user_id="ada")
        await office.create("hello", session_id="nobodys")
        yield office


async def ids(office: Office, **query: str) -> list[str]:
    listed = body_of(await office.client.get("/sessions", params=query))
    assert listed["meta"]["total_count"] == len(listed["data"])
    return sorted(item["session_id"] for item in listed["data"])


@pytest.mark.parametrize("other", ["team", "workflow"])
async def test_of_teams_and_workflows_there_are_no_sessions(office: Office, other: str) -> None:
    of_type = {"type": other}
    assert await ids(office, **of_type) == []
    assert await ids(office, type="agent") == ["hers", "nobodys"]
    client, name = office.client, {"session_name": "x"}
    answers = {
        f"{other.title()} Session with id 'hers' not found": await client.get("/sessions/hers", params=of_type),
        "Session with ID hers not found": await client.get("/sessions/hers/runs", params=of_type),
        "Session with id 'hers' not found": await client.patch("/sessions/hers", params=of_type, json=name),
    }
    for detail, answer in answers.items():
        assert (answer.status_code, answer.json()) == (404, {"detail": detail})
    assert (await client.post("/sessions/hers/rename", params=of_type, json=name)).status_code == 404
    assert (await client.post("/sessions", params=of_type, json={"session_id": "new"})).status_code == 400
    assert await ids(office) == ["hers", "nobodys"]


async def test_a_type_that_there_is_not_is_refused_everywhere(office: Office) -> None:
    client, bogus = office.client, {"type": "bogus"}
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


async def test_an_empty_user_or_agent_is_a_filter_that_finds_nothing(office: Office) -> None:
    client = office.client
    body_of(await client.post("/sessions", json={"session_id": "bare"}), 201)
    assert await ids(office, user_id="") == []
    assert await ids(office, component_id="") == []
    assert await ids(office, user_id="ada") == ["hers"]
    for name in ("hers", "nobodys"):
        assert (await client.get(f"/sessions/{name}", params={"user_id": ""})).status_code == 404
        assert (await client.delete(f"/sessions/{name}", params={"user_id": ""})).status_code == 204
    assert await ids(office) == ["bare", "hers", "nobodys"]


async def test_a_session_that_a_client_makes_has_no_agent_until_one_has_a_run_in_it(office: Office) -> None:
    made = body_of(await office.client.post("/sessions", json={"session_id": "bare"}), 201)
    assert "agent_id" not in made
    await office.create("hello", session_id="bare")
    assert body_of(await office.client.get("/sessions/bare"))["agent_id"] == "office"


async def test_a_summary_that_a_client_sets_is_kept(office: Office) -> None:
    summary = {"summary": "They said hello.", "topics": ["greetings"]}
    changed = body_of(await office.client.patch("/sessions/hers", json={"summary": summary}))
    assert changed["session_summary"] == summary
    assert body_of(await office.client.get("/sessions/hers"))["session_summary"] == summary
    body_of(await office.client.patch("/sessions/hers", json={"session_name": "x"}))
    assert body_of(await office.client.get("/sessions/hers"))["session_summary"] == summary


async def delete(office: Office, **body: object) -> httpx.Response:
    return await office.client.request("DELETE", "/sessions", json=body)


async def test_a_bulk_delete_names_the_type_of_each_session(office: Office) -> None:
    differs = await delete(office, session_ids=["hers", "nobodys"], session_types=["agent"])
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
        assert (await delete(office, **body)).status_code == 422, body
    assert await ids(office) == ["hers", "nobodys"]
    gone = await delete(office, session_ids=["hers", "nobodys"], session_types=["agent", "team"])
    assert gone.status_code == 204
    assert await ids(office) == ["nobodys"]
