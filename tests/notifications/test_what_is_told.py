"""What channels tell: each fact once, to those whom it concerns and to nobody else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.caller import confirming
from tests.support.channels import add_channel, all_rows, channel_url, notifying, rows_once, told
from tests.support.gates import Gates
from tests.support.receiver import Receiver
from tests.support.server import SettableClock
from tests.support.statements import statements
from tests.support.toolbox import calls
from tests.support.webhook_server import once
from unpause.store.tokens import set_revoked

# Over the limit of requests, which is what the answer after a tool's result is here.
FAILING = calls("note")


async def test_a_pause_is_told_once_with_a_link_to_the_request_and_without_its_arguments(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with notifying(tmp_path) as server:
            await add_channel(server, channel_url(receiver), owner="organization")
            await server.run_tools("delete_file")
            [row] = await rows_once(server, 1)
        [(title, message)] = told(receiver.received)
    assert title == "toolbox waits for you: delete_file"
    assert message == (
        f"The run is paused until somebody decides.\nhttps://unpause.example/console/requests/{row['subject']}"
    )
    assert (row["attempts"], row["delivered_at"] is not None) == (1, True)


async def test_a_run_that_fails_is_told_with_a_link_to_the_run(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with notifying(tmp_path) as server:
            await add_channel(server, channel_url(receiver), owner="organization")
            run = await server.create(FAILING)
            assert run["status"] == "ERROR"
            await rows_once(server, 1)
        [(title, message)] = told(receiver.received)
    assert title == "A run of toolbox failed"
    assert message.endswith(f"https://unpause.example/console/runs/{run['run_id']}")


async def test_what_expires_soon_is_told_beside_the_pause(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with notifying(tmp_path, reminder_seconds=20) as server:
            await add_channel(server, channel_url(receiver), owner="organization")
            await server.run_tools("soon_rejected")
            await rows_once(server, 1)
            await server.sweep_after(41)
            await rows_once(server, 2)
            await server.sweep_after(1)
        (_, first), (title, second) = told(receiver.received)
    assert title == "toolbox still waits for you: soon_rejected"
    assert first.startswith("The run is paused until somebody decides. It expires at 2026-01-01 00:01 UTC.")
    assert second.startswith("Nobody has decided yet. It expires at 2026-01-01 00:01 UTC.")


async def test_a_call_in_doubt_is_told_as_such_and_not_as_a_pause(tmp_path: Path) -> None:
    clock, gates = SettableClock(), Gates("door")
    with Receiver() as receiver:
        async with notifying(tmp_path, clock=clock, gates=gates, shutdown_grace_seconds=0) as server:
            await add_channel(server, channel_url(receiver), owner="organization")
            run = await server.run_tools("hold")
            await rows_once(server, 1)
            await server.post_continue(run, confirming(run), background="true")
            await gates.reached("door")
        async with notifying(tmp_path, clock=clock, tokens=server.tokens) as server:
            await rows_once(server, 2)
        titles = [title for title, _ in told(receiver.received)]
    assert titles == ["toolbox waits for you: hold", "toolbox: hold may already have run"]


async def test_a_channel_tells_only_about_its_events(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with notifying(tmp_path) as server:
            await add_channel(server, channel_url(receiver), owner="organization", events=["failed"])
            await server.run_tools("delete_file")
            await server.create(FAILING)
            await rows_once(server, 1)
        assert [title for title, _ in told(receiver.received)] == ["A run of toolbox failed"]


@pytest.mark.parametrize(
    ("tool", "who"),
    [
        ("delete_file", ["alice", "root"]),  # her own run; administrators may decide every run
        ("deploy", ["alice", "bob", "carol", "root"]),  # approvals are for all who may write them
        ("edit", ["alice", "bob"]),  # only bob may decide it, and he need not see her run for that
        ("sell", ["alice", "bob", "carol", "root"]),  # four eyes: alice is told of her own run, and cannot decide
    ],
)
async def test_a_user_is_told_what_that_user_may_decide_and_of_their_own_runs(
    tmp_path: Path, tool: str, who: list[str]
) -> None:
    people = ("alice", "bob", "carol", "root", "rival")
    with Receiver() as receiver:
        async with notifying(tmp_path) as server:
            names = {}
            for person in people:
                added = await add_channel(server.user(person), channel_url(receiver))
                names[added["channel_id"]] = person
            await server.user("alice").run_tools(tool)
            rows = await rows_once(server, len(who))
    assert sorted(names[row["channel_id"]] for row in rows) == who


async def test_a_failed_run_is_told_to_its_user_alone(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with notifying(tmp_path) as server:
            for person in ("root", "bob", "alice"):
                mine = await add_channel(server.user(person), channel_url(receiver))
            await server.user("alice").create(FAILING)
            [row] = await rows_once(server, 1)
    assert row["channel_id"] == mine["channel_id"]


async def test_a_channel_ends_with_the_token_that_added_it(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with notifying(tmp_path) as server:
            await add_channel(server.user("alice"), channel_url(receiver))
            token = server.tokens["alice"].removeprefix("unp_")[:8]
            now = server.clock.now()
            await server.application.database.write(lambda connection: set_revoked(connection, token, now))
            other = await server.add_user(1, "alice", "agents:run")
            await other.run_tools("delete_file")
            assert (await server.dump())["notifications"] == []


async def test_what_was_decided_before_it_could_be_sent_is_not_sent(tmp_path: Path) -> None:
    with Receiver(500) as receiver:
        async with notifying(tmp_path, request_limit=50) as server:
            await add_channel(server, channel_url(receiver), owner="organization")
            run = await server.run_tools("delete_file")
            await receiver.hears(1)
            await server.continued(run, confirming(run))
            await once(lambda: all_rows(server), lambda rows: rows[0]["last_error"] is not None)
            server.clock.move(3600)
            server.application.notifier.look_soon()
            [row] = await rows_once(server, 1)
        assert len(receiver.received) == 1
    assert (row["last_error"], row["delivered_at"]) == ("decided before it was sent", None)


async def test_without_channels_nothing_is_looked_for(tmp_path: Path) -> None:
    async with notifying(tmp_path, request_limit=50) as server:
        with statements() as seen:
            run = await server.run_tools("delete_file")
            await server.continued(run, confirming(run))
    # The statement that moves the run finds out that there are none.
    assert [each for each in seen if "notification" in each and not each.startswith("UPDATE runs")] == []
    assert any("notification" in each for each in seen)
