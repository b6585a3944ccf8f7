"""What a browser's EventSource needs: 204 as an end, a cursor and a ticket in the URL, and streams through pauses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.caller import Caller, body_of, confirming, path_of
from tests.support.server import Server, served
from tests.support.toolbox import JsonObject, plan
from unpause.auth.stream_tickets import LIFETIME, StreamTickets
from unpause.auth.tokens import revoke_token
from unpause.domain.principal import Principal
from unpause.errors import Unauthenticated

DELETE = plan([("delete_file", {"path": "a"})])
RUN_SCOPES = ("agents:run", "agents:read")


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Server]:
    async with served(tmp_path, tokens={}, keepalive_seconds=0.05) as server:
        yield server


async def ticket_of(caller: Caller, run: JsonObject) -> str:
    answer = await caller.request("POST", f"{path_of(run)}/events/ticket")
    assert answer.headers["cache-control"] == "no-store"
    return str(body_of(answer)["ticket"])


async def events(server: Server, run: JsonObject, **query: str) -> httpx.Response:
    """Follow the run as an EventSource does: without a header."""
    return await server.client.get(f"{path_of(run)}/events", params=query)


async def test_an_event_source_that_has_all_of_a_settled_run_is_answered_204(server: Server) -> None:
    run = await server.create(DELETE)
    paused = str(len(await server.frames(run)))
    assert (await events(server, run, last_event_id=paused)).status_code == 204
    await server.continued(run, confirming(run))
    ended = str(len(await server.frames(run)))
    for follow in ("false", "true"):
        answer = await events(server, run, last_event_id=ended, follow=follow)
        assert (answer.status_code, answer.content) == (204, b"")


async def test_a_cursor_past_the_newest_event_is_refused(server: Server) -> None:
    run = await server.create(DELETE)
    newest = len(await server.frames(run))
    for cursor in (newest + 1, 2**31 - 1):
        by_header = await server.request("GET", f"{path_of(run)}/events", {"Last-Event-ID": str(cursor)})
        for answer in (by_header, await events(server, run, last_event_id=str(cursor))):
            detail = f"Last-Event-ID is past the newest event of the run, {newest}"
            assert (answer.status_code, answer.json()) == (400, {"detail": detail})


async def test_the_header_of_a_reconnect_wins_over_the_cursor_in_the_url(server: Server) -> None:
    run = await server.create(DELETE)
    whole = await server.frames(run)
    answer = await server.request("GET", f"{path_of(run)}/events?last_event_id=1", {"Last-Event-ID": "2"})
    assert answer.text.startswith(f"id: {whole[2].id}")


async def test_a_stream_that_follows_stays_open_through_a_pause_until_the_run_ends(server: Server) -> None:
    run = await server.create(plan([("delete_file", {"path": "a"})], [("delete_file", {"path": "b"})]))
    cursor = str(len(await server.frames(run)))
    async with asyncio.TaskGroup() as tasks:
        from_pause = tasks.create_task(events(server, run, last_event_id=cursor, follow="true"))
        from_start = tasks.create_task(events(server, run, follow="true"))
        await server.followed_by(2)
        again = await server.continued(run, confirming(run))
        await server.continued(again, confirming(again))
    whole = (await server.request("GET", f"{path_of(run)}/events")).text
    assert from_start.result().text == whole
    assert whole.endswith(from_pause.result().text)
    assert whole.count("event: RunPaused") == 2
    assert "event: RunCompleted" in from_pause.result().text


@pytest.mark.parametrize("way", ["token", "jwt"])
async def test_a_ticket_opens_the_events_of_its_run_and_nothing_else(guarded: Server, way: str) -> None:
    alice = await guarded.add_user(1, "alice", *RUN_SCOPES) if way == "token" else guarded.by_jwt("alice", *RUN_SCOPES)
    run, other = await alice.create(DELETE), await alice.create(DELETE)
    ticket = await ticket_of(alice, run)
    assert "event: RunPaused" in (await events(guarded, run, ticket=ticket)).text
    path = path_of(run)
    for method, elsewhere in (
        ("GET", f"{path_of(other)}/events"),
        ("GET", path),
        ("POST", f"{path}/events"),
        ("POST", f"{path}/events/ticket"),
        ("POST", f"{path}/resume"),
        ("POST", f"{path}/continue"),
        ("GET", "/agents"),
    ):
        answer = await guarded.client.request(method, elsewhere, params={"ticket": ticket})
        assert answer.status_code == 401, elsewhere
        assert ticket not in answer.text


async def test_a_changed_ticket_is_no_ticket(guarded: Server) -> None:
    alice = await guarded.add_user(1, "alice", *RUN_SCOPES)
    run = await alice.create(DELETE)
    payload, _, signature = (await ticket_of(alice, run)).partition(".")
    for wrong in (
        "",
        ".",
        "x",
        payload,
        f"{payload}.",
        f".{signature}",
        f"{payload}.{signature}A",
        f"{payload[:-2]}.{signature}",
        "bnVsbA.x",
        "WzFd.x",
        "WzFd" * 2_000,
        "\u00e9.x",
        f"{payload}.\u00e9",
    ):
        assert (await events(guarded, run, ticket=wrong)).status_code == 401, wrong[:80]


async def test_a_ticket_expires_and_is_void_once_its_token_is_revoked(guarded: Server) -> None:
    alice = await guarded.add_user(1, "alice", *RUN_SCOPES)
    run = await alice.create(DELETE)
    ticket = await ticket_of(alice, run)
    guarded.clock.move(LIFETIME.total_seconds() - 1)
    assert (await events(guarded, run, ticket=ticket)).status_code == 200
    guarded.clock.move(2)
    answer = await events(guarded, run, ticket=ticket)
    assert (answer.status_code, answer.json()) == (401, {"detail": "Token has expired"})
    fresh = await ticket_of(alice, run)
    public = alice.authorization.removeprefix("Bearer unp_").partition(".")[0]
    now = guarded.clock.now()
    await guarded.application.database.write(
        lambda connection: revoke_token(connection, public, Principal(1, via="cli"), now)
    )
    guarded.clock.move(3)
    assert (await events(guarded, run, ticket=fresh)).status_code == 401


async def test_a_ticket_ends_with_the_jwt_that_it_was_issued_for(guarded: Server) -> None:
    until = guarded.clock.now().timestamp() + 60
    alice = guarded.by_jwt("alice", *RUN_SCOPES, exp=int(until))
    run = await alice.create(DELETE)
    ticket = await ticket_of(alice, run)
    guarded.clock.move(59)
    assert (await events(guarded, run, ticket=ticket)).status_code == 200
    guarded.clock.move(2)
    assert (await events(guarded, run, ticket=ticket)).status_code == 401


async def test_a_ticket_of_a_jwt_outlives_a_change_of_the_encryption_key(guarded: Server) -> None:
    authenticator, clock = guarded.application.authenticator, guarded.clock
    before, during, after = (StreamTickets(authenticator, clock, keys) for keys in ([b"a"], [b"b", b"a"], [b"b"]))
    ticket, _ = await before.issue(Principal(1, "alice", subject="alice"), "run")
    assert (await during.identify(ticket, "run")).subject == "alice"
    with pytest.raises(Unauthenticated):
        await after.identify(ticket, "run")


async def test_a_stream_ends_with_the_ticket_that_opened_it(guarded: Server) -> None:
    alice = await guarded.add_user(1, "alice", *RUN_SCOPES)
    run = await alice.create(DELETE)
    ticket = await ticket_of(alice, run)
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(events(guarded, run, ticket=ticket, follow="true"))
        await guarded.followed_by(1)
        guarded.clock.move(LIFETIME.total_seconds())
    assert "event: RunCompleted" not in following.result().text


async def test_a_ticket_shows_what_its_caller_may_see(guarded: Server) -> None:
    alice, bob = [await guarded.add_user(1, name, *RUN_SCOPES) for name in ("alice", "bob")]
    run = await alice.create(DELETE)
    await guarded.add_organization(2, "two")
    stranger = await guarded.add_user(2, "stranger", "agent_os:admin")
    for other in (bob, stranger):
        assert (await other.request("POST", f"{path_of(run)}/events/ticket")).status_code == 404


async def test_a_ticket_is_neither_stored_nor_logged(guarded: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    alice = await guarded.add_user(1, "alice", *RUN_SCOPES)
    run = await alice.create(DELETE)
    ticket = await ticket_of(alice, run)
    refused = await events(guarded, run, ticket=ticket, follow="perhaps", last_event_id="x")
    assert (refused.status_code, ticket in refused.text) == (422, False)
    # The test's own client logs the URLs that it requests.
    logged = "".join(record.getMessage() for record in caplog.records if not record.name.startswith("httpx"))
    assert ticket not in logged + str(await guarded.dump())
