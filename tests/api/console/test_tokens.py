"""The list of tokens for administrators: theirs alone, without secrets, and revoking one ends what it opened."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.caller import body_of
from tests.support.server import Server, served
from unpause.domain.scopes import ADMIN


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with served(tmp_path, tokens=True) as server:
        yield server


async def test_an_administrator_sees_the_tokens_of_the_organization_newest_first_without_secrets(
    server: Server,
) -> None:
    server.clock.move(1)
    await server.add_user(1, "newest")
    response = await server.get("/tokens")
    users = [token["user_id"] for token in body_of(response)["data"]]
    assert users[0] == "newest"
    assert set(users) == {"newest", "alice", "bob", "carol", "root", None}
    for text in server.tokens.values():
        assert text.partition(".")[2] not in response.text
    assert "hash" not in response.text


async def test_pages_join_without_a_gap(server: Server) -> None:
    seen, cursor = list[str](), None
    while True:
        page = body_of(await server.get("/tokens", limit="2", **({"cursor": cursor} if cursor else {})))
        seen += [token["token_id"] for token in page["data"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 5
    foreign = server.tokens["rival"][4:12]
    assert body_of(await server.get("/tokens", cursor=foreign)) == {"data": [], "next": None}


async def test_revoking_a_token_ends_it_and_is_in_the_audit_trail(server: Server) -> None:
    token_id = server.tokens["alice"][4:12]
    revoked = body_of(await server.request("DELETE", f"/tokens/{token_id}"))
    assert (revoked["user_id"], revoked["valid"], revoked["revoked_at"]) == ("alice", False, "2026-01-01T00:00:00Z")
    server.clock.move(3)
    assert (await server.user("alice").get("/sessions")).status_code == 401
    again = body_of(await server.request("DELETE", f"/tokens/{token_id}"))
    assert again["revoked_at"] == revoked["revoked_at"]
    entries = [entry for entry in body_of(await server.get("/audit"))["data"] if entry["subject"] == token_id]
    assert [(entry["action"], entry["actor"], entry["via"]) for entry in entries[:1]] == [
        ("token.revoked", "root", "unpause")
    ]


async def test_tokens_of_another_organization_and_those_that_never_were_are_not_there(server: Server) -> None:
    async with server.nothing_changes():
        for token_id in (server.tokens["rival"][4:12], "AAAAAAAA", "x", "\N{SNOWMAN}"):
            assert (await server.request("DELETE", f"/tokens/{token_id}")).status_code == 404


async def test_only_administrators_see_them(server: Server) -> None:
    guest = await server.add_user(1, "guest", "agents:run", "approvals:write")
    assert (await guest.get("/tokens")).status_code == 403
    assert (await guest.request("DELETE", f"/tokens/{server.tokens['root'][4:12]}")).status_code == 403
    assert ADMIN in (await guest.get("/tokens")).text


async def test_a_token_is_created_with_its_text_which_is_never_shown_again(server: Server) -> None:
    body = {"user_id": "dora", "name": "laptop", "scopes": ["agents:read"], "expires_in": 3600}
    response = await server.post("/tokens", body)
    made = body_of(response)
    token_id = made["token"]["token_id"]
    assert response.headers["cache-control"] == "no-store"
    assert made["text"].startswith(f"unp_{token_id}.")
    assert (made["token"]["scopes"], made["token"]["expires_at"]) == (["agents:read"], "2026-01-01T01:00:00Z")
    me = body_of(await server.user(made["text"]).get("/me"))
    assert (me["user_id"], me["is_admin"]) == ("dora", False)

    listed = await server.get("/tokens")
    assert token_id in {token["token_id"] for token in body_of(listed)["data"]}
    assert made["text"].partition(".")[2] not in listed.text
    (entry,) = [each for each in await server.audit() if each["subject"] == token_id]
    assert (entry["action"], entry["actor"], entry["via"]) == ("token.created", "root", "unpause")


async def test_a_token_is_created_in_the_callers_own_organization_alone(server: Server) -> None:
    body = {"user_id": "spy", "scopes": [ADMIN]}
    assert (await server.user("rival").post("/tokens", {**body, "organization_id": 1})).status_code == 422
    theirs = body_of(await server.user("rival").post("/tokens", body))
    assert body_of(await server.user(theirs["text"]).get("/me"))["organization_id"] != 1
    guest = await server.add_user(1, "guest", "agents:run")
    assert (await guest.post("/tokens", {"scopes": [ADMIN]})).status_code == 403


@pytest.mark.parametrize(
    "body", [{"scopes": ["agents:fly"]}, {"user_id": ""}, {"name": "a\nb"}, {"expires_in": 0}, {"expires_in": 10**12}]
)
async def test_a_token_that_makes_no_sense_is_refused(server: Server, body: dict[str, object]) -> None:
    async with server.nothing_changes():
        assert (await server.post("/tokens", body)).status_code in {400, 422}
