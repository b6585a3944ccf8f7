"""The routes of grants: who sees which, who may revoke it, and what a decision in the inbox may have remembered."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.inbox.deciding import decide, waiting
from tests.support.caller import body_of, refusal
from tests.support.server import Server, served
from tests.support.toolbox import JsonObject, plan

PUBLISH = plan([("publish", {"path": "a"})])


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with served(tmp_path, tokens=True) as server:
        yield server


async def granted(server: Server, session: str, who: str = "alice") -> JsonObject:
    """Have somebody approve their own call for its session; return the grant."""
    run = await server.user(who).create(PUBLISH, session_id=session)
    item = await waiting(server.user(who), session_id=session)
    body_of(await decide(server.user(who), item, remember={"scope": "session"}))
    await server.settled(run)
    return (await listed(server, session_id=session))[0]


async def listed(server: Server, who: str = "root", **query: object) -> list[JsonObject]:
    found: list[JsonObject] = body_of(await server.user(who).get("/grants", **query))["data"]
    return found


async def test_a_grant_is_listed_as_it_stands_and_revoked_once(server: Server) -> None:
    grant = await granted(server, "s")
    assert grant == {
        "grant_id": grant["grant_id"],
        "agent_id": "toolbox",
        "tool_name": "publish",
        "scope": "session",
        "session_id": "s",
        "run_id": None,
        "user_id": "alice",
        "until": None,
        "match": "arguments",
        "arguments": {"path": "a"},
        "granted_by": "alice",
        "created_at": "2026-01-01T00:00:00Z",
        "revoked_at": None,
        "revoked_by": None,
        "uses": 0,
        "last_used_at": None,
        "active": True,
    }
    assert (await server.user("alice").create(PUBLISH, session_id="s"))["status"] == "COMPLETED"
    path = f"/grants/{grant['grant_id']}"
    revoked = body_of(await server.user("alice").delete(path))
    assert (revoked["uses"], revoked["active"], revoked["revoked_by"]) == (1, False, "alice")
    assert body_of(await server.user("root").delete(path)) == revoked
    assert (await server.user("alice").create(PUBLISH, session_id="s"))["status"] == "PAUSED"
    assert await listed(server, active="true") == []
    assert [each["grant_id"] for each in await listed(server, active="false")] == [grant["grant_id"]]


async def test_a_grant_ends_with_the_jwt_that_gave_it(server: Server) -> None:
    alice = server.by_jwt("alice", "agents:run")
    await alice.create(PUBLISH, session_id="s")
    body_of(await decide(alice, await waiting(alice, session_id="s"), remember={"scope": "session"}))
    (grant,) = await listed(server)
    assert grant["until"] == "2026-01-02T00:00:00Z"


async def test_a_list_is_paged_newest_first_and_filtered(server: Server) -> None:
    for number in range(3):
        await granted(server, f"s{number}")
    first = body_of(await server.user("root").get("/grants", limit=2))
    assert [grant["session_id"] for grant in first["data"]] == [
        grant["session_id"] for grant in (await listed(server))[:2]
    ]
    rest = body_of(await server.user("root").get("/grants", limit=2, cursor=first["next"]))
    assert (len(rest["data"]), rest["next"]) == (1, None)
    assert {grant["session_id"] for grant in (*first["data"], *rest["data"])} == {"s0", "s1", "s2"}
    assert await listed(server, tool_name="spend") == []
    assert len(await listed(server, tool_name="publish", agent_id="toolbox")) == 3
    assert await listed(server, cursor="nowhere") == []


async def test_nobody_sees_or_revokes_what_is_not_for_them(server: Server) -> None:
    grant = await granted(server, "s")
    path = f"/grants/{grant['grant_id']}"
    dora = await server.add_user(1, "dora", "agents:run")
    reader = await server.add_user(1, "root", "agents:other:read")
    elsewhere = server.by_jwt("alice", "agents:run", session_id="another session")
    for stranger in (dora, reader, server.user("rival"), elsewhere):
        assert body_of(await stranger.get("/grants"))["data"] == []
        async with server.nothing_changes():
            assert refusal(await stranger.delete(path), 404) == "Grant not found"


async def test_one_who_only_reads_sees_a_grant_and_cannot_revoke_it(tmp_path: Path) -> None:
    async with served(tmp_path, tokens=True, user_isolation=False) as server:
        grant = await granted(server, "s")
        eve = await server.add_user(1, "eve", "agents:read")
        assert [each["grant_id"] for each in body_of(await eve.get("/grants"))["data"]] == [grant["grant_id"]]
        async with server.nothing_changes():
            refusal(await eve.delete(f"/grants/{grant['grant_id']}"), 403)


async def test_an_item_says_what_may_be_remembered_and_the_history_what_a_grant_decided(server: Server) -> None:
    alice = server.user("alice")
    await granted(server, "s")
    automatic = await alice.create(PUBLISH, session_id="s")
    run = await alice.create(plan([("publish", {"path": "b"})], [("spend", {"amount": 5})]), session_id="s")
    item = await waiting(alice)
    assert item["remember"] == {"scopes": ["run", "session", "until"], "matches": ["arguments"], "max_seconds": None}
    shown = body_of(await alice.get(f"/inbox/{item['requirement_id']}"))
    assert [(each["decision"], each["by"], each["via"]) for each in shown["earlier"]] == [
        ("approve", "alice", "grant"),
        ("approve", "alice", "unpause"),
    ]
    decided = automatic["requirements"][0]["id"]
    assert body_of(await alice.get(f"/inbox/{decided}"))["decision"]["via"] == "grant"
    body_of(await decide(alice, item))
    await server.settled(run)
    assert (await waiting(alice))["remember"]["matches"] == ["arguments", "tool"]


async def test_what_cannot_be_remembered_is_refused_and_changes_nothing(server: Server) -> None:
    alice = server.user("alice")
    await alice.run_tools("publish", "delete_file")
    publish, delete = await waiting(alice, "publish"), await waiting(alice, "delete_file")
    session = {"scope": "session"}
    refused: list[tuple[JsonObject, str, object]] = [
        (delete, "approve", session),
        (publish, "reject", session),
        (publish, "approve", {"scope": "session", "match": "tool"}),
        (publish, "approve", {"scope": "until"}),
        (publish, "approve", {"scope": "until", "until": "2025-01-01T00:00:00Z"}),
        (publish, "approve", {"scope": "until", "until": "2027-01-01T00:00:00"}),
        (publish, "approve", {"scope": "until", "until": 1_800_000_000}),
        (publish, "approve", {"scope": "always"}),
        (publish, "approve", {"scope": "session", "for": "ever"}),
    ]
    async with server.nothing_changes():
        for item, decision, remember in refused:
            assert (await decide(alice, item, decision, remember=remember)).status_code == 422
    body_of(await decide(alice, publish))
    async with server.nothing_changes():
        # The decision is made, and was not to be remembered.
        assert (await decide(alice, publish, remember=session)).status_code == 409


async def test_a_repeated_decision_that_is_remembered_makes_one_grant(server: Server) -> None:
    alice = server.user("alice")
    await alice.run_tools("publish")
    item = await waiting(alice)
    for _ in range(2):
        body_of(await decide(alice, item, remember={"scope": "run"}, continues=False))
    assert len(await listed(server)) == 1
