"""The overview: what waits, how long decisions take, who executes, and who sees how much of it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert

from tests.support.caller import body_of
from tests.support.database_clock import stop_clock
from tests.support.databases import NOW
from tests.support.server import Server, SettableClock, User, served
from tests.support.toolbox import JsonObject
from unpause.domain.principal import Principal
from unpause.domain.webhooks import Address, Delivery
from unpause.services.overview import OverviewService
from unpause.store.deliveries import add_deliveries
from unpause.store.engine.database import Database
from unpause.store.tables import nodes, webhook_deliveries


async def overview(caller: Server | User) -> JsonObject:
    """Return what the caller sees now, and not what was read less than a second ago."""
    caller.application.overviews._kept.clear()  # noqa: SLF001 - a second later it is read again
    return body_of(await caller.get("/overview"))


async def test_runs_are_counted_by_status_and_the_oldest_that_waits_is_named(server: Server) -> None:
    await server.create("hello")
    first = await server.run_tools("delete_file")
    server.clock.move(60)
    await server.run_tools("delete_file")
    shown = await overview(server)

    assert shown["runs"] == {"PENDING": 0, "RUNNING": 0, "PAUSED": 2, "COMPLETED": 1, "ERROR": 0, "CANCELLED": 0}
    oldest = shown["oldest_waiting"]
    assert (oldest["run_id"], oldest["tool_name"], oldest["seconds"]) == (first["run_id"], "delete_file", 60)
    assert len(shown["series"]) == 24
    assert shown["series"][-1] == {**shown["series"][-1], "created": 3, "completed": 1, "failed": 0, "decided": 0}


async def test_times_until_decisions_are_those_of_people(server: Server) -> None:
    for seconds in (10, 20, 100):
        run = await server.run_tools("delete_file")
        server.clock.move(seconds)
        await server.answer(run)
    held = await server.run_tools("deploy")
    shown = await overview(server)
    assert shown["waiting"] == {"p50": 20, "p95": 100, "decisions": 3}
    assert shown["decided_today"] == 3
    assert shown["oldest_waiting"]["run_id"] == held["run_id"]

    # An approval that is resolved, and then answers its call, is one decision.
    (approval,) = body_of(await server.get("/approvals"))["data"]
    body_of(await server.post(f"/approvals/{approval['id']}/resolve", {"status": "approved"}))
    await server.continued(held)
    shown = await overview(server)
    assert (shown["decided_today"], shown["waiting"]["decisions"], shown["oldest_waiting"]) == (4, 4, None)


async def test_what_the_server_decides_at_a_deadline_is_no_decision_of_people(tmp_path: Path) -> None:
    async with served(tmp_path, pause_expires_seconds=60) as server:
        await server.run_tools("delete_file")
        await server.sweep_after(61)
        await server.settle(1)
        shown = await overview(server)
    assert (shown["decided_today"], shown["waiting"]) == (0, {"p50": None, "p95": None, "decisions": 0})


async def test_users_see_their_own_runs_and_administrators_workers_and_failing_webhooks(tmp_path: Path) -> None:
    def fail(connection: Connection) -> None:
        at = server.clock.now()
        address = Address("https://hooks.example", "/secret-path")
        add_deliveries(connection, [Delivery(f"m{number}", 1, address, "{}", at) for number in range(2)])
        add_deliveries(connection, [Delivery("theirs", 2, address, "{}", at)])
        connection.execute(webhook_deliveries.update().values(last_error="HTTP 500"))
        given_up = webhook_deliveries.update().where(webhook_deliveries.c.id == "m0")
        connection.execute(given_up.values(next_attempt_at=None))

    async with served(tmp_path, tokens=True) as server:
        alice, bob, rival = (server.user(who) for who in ("alice", "bob", "rival"))
        await alice.run_tools("delete_file")
        await server.application.database.write(fail)
        by_user = {who: await overview(user) for who, user in (("alice", alice), ("bob", bob), ("rival", rival))}
        shown = await overview(server)

    assert [by_user[who]["runs"]["PAUSED"] for who in ("alice", "bob", "rival")] == [1, 0, 0]
    assert by_user["bob"]["oldest_waiting"] is None
    assert (by_user["alice"]["workers"], by_user["alice"]["webhooks"]) == (None, None)
    (worker,) = shown["workers"]
    assert (worker["agents"], worker["alive"], worker["running"]) == (["other", "toolbox"], True, 0)
    (failing,) = shown["webhooks"]
    assert (failing["server"], failing["retrying"], failing["given_up"]) == ("https://hooks.example", 1, 1)
    assert "secret-path" not in str(shown)


async def test_it_is_read_once_a_second_however_many_ask(server: Server) -> None:
    first = body_of(await server.get("/overview"))
    await server.run_tools("delete_file")
    assert body_of(await server.get("/overview")) == first
    assert (await overview(server))["runs"]["PAUSED"] == 1


@pytest.mark.parametrize("seen_ago", [1, 3600])
async def test_a_worker_that_was_silent_for_longer_than_a_lease_is_not_alive(postgres_url: str, seen_ago: int) -> None:
    clock = SettableClock(NOW)
    stop_clock(postgres_url, NOW)
    async with Database(postgres_url).opened() as database:
        row = {"id": "n", "name": "host:1", "version": "1", "agents": ["ops"], "started_at": NOW}
        clock.move(seen_ago)
        stop_clock(postgres_url, clock.now())
        await database.write(lambda connection: connection.execute(insert(nodes), [{**row, "seen_at": NOW}]))
        service = OverviewService(database, clock, lambda: None, patience=timedelta(seconds=30))
        (worker,) = (await service.get_overview(Principal(1))).workers or ()
    assert (worker.name, worker.is_alive) == ("host:1", seen_ago == 1)
    assert worker.running is None, "as code of before revision 0018 writes it"
