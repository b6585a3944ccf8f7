"""The events of the inbox: each change once for whoever sees the request, also after a reconnect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.api.inbox.deciding import decide, waiting
from tests.support.caller import DEADLINE, Caller
from tests.support.databases import PostgresServer
from tests.support.frames import read_frames
from tests.support.reaching import until
from tests.support.server import Server, served
from unpause.api.inbox.wire import frame_of, read_event_id
from unpause.domain.inbox import Request
from unpause.domain.principal import Principal
from unpause.services import inbox_feed
from unpause.services.inbox_feed import _KEEPALIVE, InboxSubscription
from unpause.streaming.bus import InProcessBus

_NOBODYS_UUID: Final = "00000000-0000-4000-8000-000000000000"


class Follower:
    """Somebody who follows the inbox."""

    def __init__(self, server: Server, principal: Principal, last_id: str | None = None) -> None:
        self.seen: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._server = server
        self._principal = principal
        self._last_id = last_id
        self.subscription = InboxSubscription()

    async def run(self) -> None:
        viewer, after = (self._principal, "http://here"), read_event_id(self._last_id)
        async for content in self._server.application.feed.follow(self.subscription, viewer, frame_of, after):
            for frame in read_frames(content.decode()):
                assert frame.id is not None or frame.event == "inbox.changed"
                await self.seen.put((frame.event, frame.id or ""))

    async def next(self) -> tuple[str, str]:
        """Return the next event and its id."""
        async with asyncio.timeout(DEADLINE):
            return await self.seen.get()


@asynccontextmanager
async def following(
    server: Server,
    user: str,
    *scopes: str,
    last_id: str | None = None,
    is_isolated: bool = True,
    organization: int = 1,
) -> AsyncIterator[Follower]:
    """Follow as somebody during the block."""
    allowed = frozenset(scopes or ("agents:run",))
    follower = Follower(server, Principal(organization, subject=user, scopes=allowed, is_isolated=is_isolated), last_id)
    task = asyncio.create_task(follower.run())
    # It subscribes with its first step.
    await asyncio.sleep(0)
    try:
        yield follower
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def frames(caller: Caller, last_id: str) -> list[Any]:
    """Return what somebody has missed."""
    response = await caller.request("GET", "/inbox/events?follow=false", {"Last-Event-ID": last_id})
    assert response.status_code == 200, response.text
    return read_frames(response.text)


async def test_each_change_of_a_request_is_an_event(server: Server) -> None:
    alice = server.user("alice")
    async with following(server, "alice") as follower:
        await alice.run_tools("delete_file")
        assert (await follower.next())[0] == "requirement.added"
        await decide(alice, await waiting(alice))
        assert (await follower.next())[0] == "requirement.decided"
        run = await alice.run_tools("move")
        assert (await follower.next())[0] == "requirement.added"
        await decide(alice, await waiting(alice))
        assert (await follower.next())[0] == "requirement.updated"
        await alice.cancel(run)
        assert (await follower.next())[0] == "requirement.cancelled"
        await alice.run_tools("soon_rejected")
        assert (await follower.next())[0] == "requirement.added"
        await server.sweep_after(61)
        assert (await follower.next())[0] == "requirement.expired"


async def test_what_other_apis_do_is_an_event_too(server: Server) -> None:
    alice, bob = server.user("alice"), server.user("bob")
    async with following(server, "alice") as follower:
        for answer in ("agentos", "codegen", "approval", "deleted"):
            run = await alice.run_tools("deploy" if answer in {"approval", "deleted"} else "delete_file")
            assert (await follower.next())[0] == "requirement.added"
            if answer == "agentos":
                await alice.answer(run)
            elif answer == "codegen":
                await alice.resume(run, "No.")
            elif answer == "approval":
                await bob.resolve(run)
            else:
                await bob.delete(f"/approvals/{(await server.approval_of(run, status='pending'))['id']}")
            assert (await follower.next())[0] == "requirement.decided"


async def test_open_requests_that_are_deleted_with_their_session_have_the_list_read_again(server: Server) -> None:
    alice = server.user("alice")
    async with following(server, "alice") as follower, following(server, "rival", organization=2) as rival:
        run = await alice.run_tools("delete_file")
        assert (await follower.next())[0] == "requirement.added"
        ended = await alice.create("hello")
        for session in (ended["session_id"], run["session_id"]):
            assert (await alice.delete(f"/sessions/{session}")).status_code == 204
        # Once: the run that had ended waited for nobody.
        assert await follower.next() == ("inbox.changed", "")
        assert (follower.seen.qsize(), rival.seen.qsize()) == (0, 0)


async def test_an_event_reaches_those_who_see_the_request_and_says_whether_they_may_decide(server: Server) -> None:
    async with (
        following(server, "alice") as alice,
        following(server, "bob") as bob,
        following(server, "dora") as dora,
        following(server, "root", "agent_os:admin") as root,
    ):
        await server.user("alice").run_tools("edit")
        await server.user("alice").run_tools("delete_file")
        assert [(await alice.next())[0] for _ in range(2)] == ["requirement.added"] * 2
        assert [(await root.next())[0] for _ in range(2)] == ["requirement.added"] * 2
        assert (await bob.next())[0] == "requirement.added"
        assert (bob.seen.qsize(), dora.seen.qsize()) == (0, 0)


async def test_a_client_that_reconnects_misses_nothing(server: Server) -> None:
    alice = server.user("alice")
    async with following(server, "alice") as follower:
        await alice.run_tools("delete_file")
        _, last_id = await follower.next()
    server.clock.move(100)
    await decide(alice, await waiting(alice))
    await alice.run_tools("delete_file")
    missed = [(frame.event, frame.id) for frame in await frames(alice, last_id)]
    assert sorted(event for event, _ in missed) == ["requirement.added", "requirement.decided"]
    async with following(server, "alice", last_id=last_id) as follower:
        assert sorted([await follower.next(), await follower.next()]) == sorted(missed)
        run = await alice.run_tools("edit")
        assert (await follower.next())[0] == "requirement.added"
        assert run["status"] == "PAUSED"


async def test_a_clock_that_is_put_back_hides_no_change(server: Server) -> None:
    alice = server.user("alice")
    async with following(server, "alice") as follower:
        await alice.run_tools("delete_file")
        _, last_id = await follower.next()
        server.clock.move(-3600)
        await decide(alice, await waiting(alice))
        assert (await follower.next())[0] == "requirement.decided"
    assert [frame.event for frame in await frames(alice, last_id)] == ["requirement.decided"]


async def test_changes_that_nobody_announced_come_with_the_next_look_however_many_they_are(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox_feed, "_PAGE", 1)
    bus, alice = server.application.engine.bus, server.user("alice")
    async with following(server, "alice") as follower:
        with monkeypatch.context() as silence:
            silence.setattr(bus, "requirements_changed", lambda _: None)
            for _ in range(3):
                await alice.run_tools("delete_file")
        await alice.run_tools("delete_file")
        await follower.next()
        assert isinstance(bus, InProcessBus)
        bus._call_requirements_handlers(None)  # noqa: SLF001 - as a listener that connects again
        assert [(await follower.next())[0] for _ in range(3)] == ["requirement.added"] * 3


async def test_a_change_that_could_not_be_read_comes_with_the_next_one(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = server.user("alice")
    failed = asyncio.Event()

    def fail(*_: object) -> list[Request]:
        failed.set()
        raise ValueError("no such row")

    async with following(server, "alice") as follower:
        with monkeypatch.context() as broken:
            broken.setattr(inbox_feed, "list_of_runs", fail)
            await alice.run_tools("delete_file")
            async with asyncio.timeout(DEADLINE):
                await failed.wait()
        await alice.run_tools("delete_file")
        assert [(await follower.next())[0] for _ in range(2)] == ["requirement.added"] * 2


async def test_an_event_is_the_request_as_the_list_has_it_without_messages(server: Server) -> None:
    alice = server.user("alice")
    await alice.run_tools("edit")
    (frame,) = await frames(server.user("bob"), f"0-{_NOBODYS_UUID}")
    item = await waiting(server.user("bob"))
    changed = {key: value for key, value in frame.data.items() if key not in {"event", "decision", "run_status"}}
    assert changed == {**item, "messages": []}
    assert (frame.data["event"], frame.data["decision"]) == ("requirement.added", None)


@pytest.mark.parametrize("last_id", ["x", "1", f"-1-{_NOBODYS_UUID}", f"{'9' * 18}-{_NOBODYS_UUID}", "1-x"])
async def test_an_id_of_another_stream_is_refused(server: Server, last_id: str) -> None:
    response = await server.user("alice").request("GET", "/inbox/events", {"Last-Event-ID": last_id})
    assert response.status_code == 400, response.text


async def test_a_stream_ends_when_the_server_stops_and_when_its_reader_falls_behind(server: Server) -> None:
    feed = server.application.feed
    async with following(server, "alice") as follower, following(server, "bob") as slow:
        for _ in range(1000):
            slow.subscription.offer(_KEEPALIVE)
        assert (follower.subscription.is_ended, slow.subscription.is_ended) == (False, True)
        feed.end_streams()
        assert follower.subscription.is_ended
    assert not feed._audiences  # noqa: SLF001 - nobody else knows who follows


async def test_nothing_is_read_while_nobody_follows(server: Server) -> None:
    await server.user("alice").run_tools("delete_file")
    assert not server.application.feed._changed  # noqa: SLF001 - see above


@pytest.mark.on_postgresql
@pytest.mark.sql
async def test_a_change_at_one_node_is_an_event_at_another(postgres: PostgresServer, tmp_path: Path) -> None:
    with postgres.migrated_database() as url:
        async with (
            served(tmp_path, tokens=True, database_url=url) as here,
            served(tmp_path, tokens=here.tokens, database_url=url) as there,
        ):
            # As soon as it listens it has every list read again: deletions of before may have been missed.
            await until(lambda: there.application.engine.bus.is_notified)
            alice = here.user("alice")
            async with following(there, "alice") as follower:
                run = await alice.run_tools("delete_file")
                assert (await follower.next())[0] == "requirement.added"
                await alice.answer(run)
                assert (await follower.next())[0] == "requirement.decided"
                run = await alice.run_tools("delete_file")
                assert (await follower.next())[0] == "requirement.added"
                assert (await alice.delete(f"/sessions/{run['session_id']}")).status_code == 204
                assert await follower.next() == ("inbox.changed", "")
