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
from tests.support.bank import Bank, at_bank
from tests.support.office import CODEGEN, JsonObject, Office, at_office, body_of, confirming, plan
from tests.support.serving import settings_for
from unpause.bootstrap import build_application

if TYPE_CHECKING:
    import httpx
    from sqlalchemy import Connection


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with at_office(tmp_path) as office:
        yield office


@pytest.fixture
async def bank(database_url: str, tmp_path: Path) -> AsyncIterator[Bank]:
    async with at_bank(database_url, tmp_path) as served:
        yield served


def soon(what: str) -> str:
    return plan([(f"soon_{what}", {"path": "a"})])


TWO = plan([("soon_rejected", {"path": "a"}), ("delete_file", {"path": "b"})])


async def key_of(office: Office, run: JsonObject) -> int:
    listed = body_of(await office.client.get(f"{CODEGEN}s"))["items"]
    (key,) = [item["id"] for item in listed if item["web_url"].endswith(run["run_id"])]
    return int(key)


async def send(office: Office, run: JsonObject, way: str, *, confirmed: bool = True) -> httpx.Response:
    """Confirm the run's calls in one of the ways there are."""
    tools = confirming(run, confirmed=confirmed)
    if way == "codegen":
        body = {"agent_run_id": await key_of(office, run), "prompt": "", "tools": tools}
        return await office.client.post(f"{CODEGEN}/resume", json=body)
    if way == "codegen prompt":
        body = {"agent_run_id": await key_of(office, run), "prompt": "go on"}
        return await office.client.post(f"{CODEGEN}/resume", json=body)
    return await office.post_continue(run, tools, stream="true" if way == "stream" else "false")


@pytest.mark.parametrize("way", ["json", "stream", "codegen", "codegen prompt"])
@pytest.mark.parametrize(
    ("what", "status", "content", "executed"),
    [
        ("rejected", "COMPLETED", "Done. Nobody answered in time", []),
        ("approved", "COMPLETED", "Done. did soon_approved(a)", ["soon_approved(a)"]),
        ("cancelled", "CANCELLED", "Nobody answered in time", []),
    ],
)
async def test_a_late_answer_is_refused_and_silence_has_decided(
    office: Office, way: str, what: str, status: str, content: str, executed: list[str]
) -> None:
    run = await office.create(soon(what))
    office.clock.move(60)
    # A no to what silence allows is as late as a yes to what it forbids.
    late = await send(office, run, way, confirmed=what != "approved")
    assert late.status_code == 409, late.text
    settled = await office.settled(run)
    assert (settled["status"], settled["content"]) == (status, content)
    assert office.executed == executed
    async with office.nothing_changes():
        assert await office.sweep_after(3600) == 0
        assert (await send(office, run, way)).status_code == 409


async def test_one_second_before_its_time_is_up_an_answer_counts(office: Office) -> None:
    run = await office.create(soon("cancelled"))
    office.clock.move(59.999)
    assert (await office.continued(run, confirming(run)))["status"] == "COMPLETED"
    assert office.executed == ["soon_cancelled(a)"]


async def test_a_late_answer_with_a_key_is_refused_each_time(office: Office) -> None:
    run = await office.create(soon("rejected"))
    office.clock.move(60)
    for _ in range(2):
        late = await office.post_continue(run, confirming(run), key="once")
        assert late.status_code == 409
        await office.settled(run)
    assert late.json()["continued_via"] == "expiry"


async def test_of_two_calls_the_late_one_is_refused_and_the_other_can_still_be_answered(office: Office) -> None:
    run = await office.create(TWO)
    office.clock.move(60)
    late = await office.post_continue(run, confirming(run))
    assert late.status_code == 409
    assert "soon_rejected" in late.json()["detail"]
    assert late.json()["expired_at"] == "2026-01-01T00:01:00+00:00"
    waiting = await office.get(run)
    assert [tool["requires_confirmation"] for tool in waiting["tools"]] == [False, True]
    done = await office.continued(run, confirming(waiting))
    assert done["content"] == "Done. Nobody answered in time did delete_file(b)"
    assert office.executed == ["delete_file(b)"]


async def test_an_answer_to_the_other_call_alone_sends_the_run_on_at_once(office: Office) -> None:
    run = await office.create(TWO)
    office.clock.move(60)
    # As clients send it: every tool of the run, and an answer to one.
    echo, other = confirming(run)
    done = await office.continued(run, [{**echo, "confirmed": None}, other])
    assert done["content"] == "Done. Nobody answered in time did delete_file(b)"


async def test_words_that_would_decide_a_late_call_too_decide_nothing(office: Office) -> None:
    run = await office.create(TWO)
    office.clock.move(60)
    assert (await send(office, run, "codegen prompt")).status_code == 409
    waiting = await office.get(run)
    assert (waiting["status"], len(confirming(waiting))) == ("PAUSED", 1)
    assert (await send(office, run, "codegen prompt")).status_code == 200
    assert (await office.settled(run))["status"] == "COMPLETED"
    assert office.executed == []


async def test_a_request_that_does_not_fit_changes_nothing_although_time_is_up(office: Office) -> None:
    run = await office.create(TWO)
    office.clock.move(60)
    (_, other) = confirming(run)
    async with office.nothing_changes():
        wrong = await office.post_continue(run, [{**other, "tool_args": {"path": "c"}}])
        assert wrong.status_code == 400


async def test_a_late_decision_of_an_administrator_is_refused(office: Office) -> None:
    run = await office.create(plan([("deploy_soon", {"env": "prod"})]))
    approval = await office.approval_of(run)
    office.clock.move(60)
    for _ in range(2):
        late = await office.resolve(approval, key="once")
        assert (late.status_code, late.json()["detail"]) == (
            409,
            "Approval is already 'expired' and cannot be resolved",
        )
    assert (await office.settled(run))["content"] == "Done. The approval expired: nobody decided in time"
    assert office.executed == []


async def test_to_delete_a_late_approval_removes_a_record_and_decides_nothing(office: Office) -> None:
    run = await office.create(plan([("deploy_soon", {"env": "prod"})]))
    approval = await office.approval_of(run)
    office.clock.move(60)
    assert (await office.client.delete(f"/approvals/{approval['id']}")).status_code == 204
    assert (await office.settled(run))["content"] == "Done. The approval expired: nobody decided in time"


async def test_a_yes_in_time_whose_values_never_came_is_not_told_as_silence(tmp_path: Path) -> None:
    async with at_office(tmp_path, approval_expires_seconds=60.0) as office:
        waits = await office.create(plan([("grant", {"user": "bob"})]))
        job = await office.create(plan([("run_job", {"command": "ls"})]))
        for run in (waits, job):
            body_of(await office.resolve(await office.approval_of(run)))
        assert await office.sweep_after(60) == 2
        for run, missing in ((waits, "the values it needs"), (job, "its result")):
            told = f"Done. The call was approved in time, but {missing} did not come in time"
            assert (await office.settled(run))["content"] == told
            assert (await office.approval_of(run))["status"] == "approved"
        assert office.executed == []


async def test_late_voices_count_on_both_databases_by_the_clock_of_the_database(bank: Bank) -> None:
    moved, closed, dropped = [await bank.create("alice", tool) for tool in ("move", "close", "drop")]
    for run in (moved, dropped):
        assert (await bank.answer("bob", run)).status_code == 200
    assert (await bank.resolve("bob", closed)).status_code == 200
    bank.clock.move(61)
    for run in (moved, dropped):
        bank.refusal(await bank.answer("carol", run), 409)
    bank.refusal(await bank.resolve("carol", closed), 409)
    for run in (moved, closed):
        assert "1 of 2 people confirmed the call in time" in (await bank.settled(run))["content"]
    assert (await bank.get(dropped))["status"] == "CANCELLED"
    assert bank.executed == []


async def test_one_sweep_does_all_that_is_due(database_url: str, tmp_path: Path) -> None:
    application = build_application(settings_for(tmp_path, database_url=database_url), [])

    def fill(connection: Connection) -> None:
        add_backlog(connection, 450)
        long_ago = "expires_at = created_at, due_at = created_at"
        connection.execute(text(f"UPDATE requirements SET {long_ago} WHERE due_at IS NOT NULL"))  # noqa: S608

    async with application.database.opened():
        await application.database.write(fill)
        assert await application.expiry.sweep() == 150
        assert await application.expiry.sweep() == 0
