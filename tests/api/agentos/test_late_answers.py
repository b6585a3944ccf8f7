"""Answers that come after the time was up, and before the sweep has come by: they are late all the same.

Nobody sweeps here but where a test says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from tests.support.backlog import add_backlog
from tests.support.caller import CODEGEN, body_of, confirming, refusal
from tests.support.server import Server, served
from tests.support.serving import application_for, settings_for
from tests.support.toolbox import JsonObject, calls, plan

if TYPE_CHECKING:
    import httpx
    from sqlalchemy import Connection


@pytest.fixture
async def on_both(database_url: str, tmp_path: Path) -> AsyncIterator[Server]:
    """Serve on both databases: the rows that several lock at once, and the time that counts."""
    async with served(tmp_path, tokens=True, user_isolation=False, database_url=database_url) as server:
        yield server


def soon(what: str) -> str:
    return plan([(f"soon_{what}", {"path": "a"})])


TWO = plan([("soon_rejected", {"path": "a"}), ("delete_file", {"path": "b"})])


async def key_of(server: Server, run: JsonObject) -> int:
    listed = body_of(await server.client.get(f"{CODEGEN}s"))["items"]
    (key,) = [item["id"] for item in listed if item["web_url"].endswith(run["run_id"])]
    return int(key)


async def send(server: Server, run: JsonObject, way: str, *, confirmed: bool = True) -> httpx.Response:
    """Confirm the run's calls in one of the ways there are."""
    tools = confirming(run, confirmed=confirmed)
    if way == "codegen":
        body = {"agent_run_id": await key_of(server, run), "prompt": "", "tools": tools}
        return await server.client.post(f"{CODEGEN}/resume", json=body)
    if way == "codegen prompt":
        body = {"agent_run_id": await key_of(server, run), "prompt": "go on"}
        return await server.client.post(f"{CODEGEN}/resume", json=body)
    return await server.post_continue(run, tools, stream="true" if way == "stream" else "false")


@pytest.mark.parametrize("way", ["json", "stream", "codegen", "codegen prompt"])
@pytest.mark.parametrize(
    ("what", "status", "content", "executed"),
    [
        ("rejected", "COMPLETED", "Done. soon_rejected: Nobody answered in time.", []),
        ("approved", "COMPLETED", "Done. soon_approved: did soon_approved(a).", ["soon_approved(a)"]),
        ("cancelled", "CANCELLED", "Nobody answered in time", []),
    ],
)
async def test_a_late_answer_is_refused_and_silence_has_decided(
    server: Server, way: str, what: str, status: str, content: str, executed: list[str]
) -> None:
    run = await server.create(soon(what))
    server.clock.move(60)
    # A no to what silence allows is as late as a yes to what it forbids.
    late = await send(server, run, way, confirmed=what != "approved")
    assert late.status_code == 409, late.text
    settled = await server.settled(run)
    assert (settled["status"], settled["content"]) == (status, content)
    assert server.executed == executed
    async with server.nothing_changes():
        assert await server.sweep_after(3600) == 0
        assert (await send(server, run, way)).status_code == 409


async def test_one_second_before_its_time_is_up_an_answer_counts(server: Server) -> None:
    run = await server.create(soon("cancelled"))
    server.clock.move(59.999)
    assert (await server.continued(run, confirming(run)))["status"] == "COMPLETED"
    assert server.executed == ["soon_cancelled(a)"]


async def test_a_late_answer_with_a_key_is_refused_each_time(server: Server) -> None:
    run = await server.create(soon("rejected"))
    server.clock.move(60)
    for _ in range(2):
        late = await server.post_continue(run, confirming(run), key="once")
        assert late.status_code == 409
        await server.settled(run)
    assert late.json()["continued_via"] == "expiry"


async def test_of_two_calls_the_late_one_is_refused_and_the_other_can_still_be_answered(server: Server) -> None:
    run = await server.create(TWO)
    server.clock.move(60)
    late = await server.post_continue(run, confirming(run))
    assert late.status_code == 409
    assert "soon_rejected" in late.json()["detail"]
    assert late.json()["expired_at"] == "2026-01-01T00:01:00+00:00"
    waiting = await server.read(run)
    assert [tool["requires_confirmation"] for tool in waiting["tools"]] == [False, True]
    done = await server.continued(run, confirming(waiting))
    assert done["content"] == "Done. soon_rejected: Nobody answered in time. delete_file: did delete_file(b)."
    assert server.executed == ["delete_file(b)"]


async def test_an_answer_to_the_other_call_alone_sends_the_run_on_at_once(server: Server) -> None:
    run = await server.create(TWO)
    server.clock.move(60)
    # As clients send it: every tool of the run, and an answer to one.
    echo, other = confirming(run)
    done = await server.continued(run, [{**echo, "confirmed": None}, other])
    assert done["content"] == "Done. soon_rejected: Nobody answered in time. delete_file: did delete_file(b)."


async def test_words_that_would_decide_a_late_call_too_decide_nothing(server: Server) -> None:
    run = await server.create(TWO)
    server.clock.move(60)
    assert (await send(server, run, "codegen prompt")).status_code == 409
    waiting = await server.read(run)
    assert (waiting["status"], len(confirming(waiting))) == ("PAUSED", 1)
    assert (await send(server, run, "codegen prompt")).status_code == 200
    assert (await server.settled(run))["status"] == "COMPLETED"
    assert server.executed == []


async def test_a_request_that_does_not_fit_changes_nothing_although_time_is_up(server: Server) -> None:
    run = await server.create(TWO)
    server.clock.move(60)
    (_, other) = confirming(run)
    async with server.nothing_changes():
        wrong = await server.post_continue(run, [{**other, "tool_args": {"path": "c"}}])
        assert wrong.status_code == 400


async def test_a_late_decision_of_an_administrator_is_refused(server: Server) -> None:
    run = await server.create(plan([("deploy_soon", {"env": "prod"})]))
    approval = await server.approval_of(run)
    server.clock.move(60)
    for _ in range(2):
        late = await server.resolve(approval, key="once")
        assert (late.status_code, late.json()["detail"]) == (
            409,
            "Approval is already 'expired' and cannot be resolved",
        )
    assert (await server.settled(run))["content"] == "Done. deploy_soon: The approval expired: nobody decided in time."
    assert server.executed == []


async def test_to_delete_a_late_approval_removes_a_record_and_decides_nothing(server: Server) -> None:
    run = await server.create(plan([("deploy_soon", {"env": "prod"})]))
    approval = await server.approval_of(run)
    server.clock.move(60)
    assert (await server.client.delete(f"/approvals/{approval['id']}")).status_code == 204
    assert (await server.settled(run))["content"] == "Done. deploy_soon: The approval expired: nobody decided in time."


async def test_a_yes_in_time_whose_values_never_came_is_not_told_as_silence(tmp_path: Path) -> None:
    async with served(tmp_path, approval_expires_seconds=60.0) as server:
        waits = await server.create(calls("grant"))
        job = await server.create(plan([("run_job", {"command": "ls"})]))
        for run in (waits, job):
            body_of(await server.resolve(await server.approval_of(run)))
        assert await server.sweep_after(60) == 2
        for run, tool, missing in ((waits, "grant", "the values it needs"), (job, "run_job", "its result")):
            reported = f"Done. {tool}: The call was approved in time, but {missing} did not come in time."
            assert (await server.settled(run))["content"] == reported
            assert (await server.approval_of(run))["status"] == "approved"
        assert server.executed == []


@pytest.mark.sql
async def test_late_voices_count_on_both_databases_by_the_clock_of_the_database(on_both: Server) -> None:
    moved, closed, dropped = [await on_both.user("alice").run_tools(tool) for tool in ("move", "close", "drop")]
    for run in (moved, dropped):
        assert (await on_both.user("bob").answer(run)).status_code == 200
    assert (await on_both.user("bob").resolve(closed)).status_code == 200
    on_both.clock.move(61)
    for run in (moved, dropped):
        refusal(await on_both.user("carol").answer(run), 409)
    refusal(await on_both.user("carol").resolve(closed), 409)
    for run in (moved, closed):
        assert "1 of 2 people confirmed the call in time" in (await on_both.settled(run))["content"]
    assert (await on_both.read(dropped))["status"] == "CANCELLED"
    assert on_both.executed == []


@pytest.mark.sql
async def test_one_sweep_does_all_that_is_due(database_url: str, tmp_path: Path) -> None:
    application = application_for(settings_for(tmp_path, database_url=database_url), [])

    def fill(connection: Connection) -> None:
        add_backlog(connection, 450)
        long_ago = "expires_at = created_at, due_at = created_at"
        connection.execute(text(f"UPDATE requirements SET {long_ago} WHERE due_at IS NOT NULL"))  # noqa: S608

    async with application.database.opened():
        await application.database.write(fill)
        assert await application.expiry.sweep() == 150
        assert await application.expiry.sweep() == 0
