"""Pauses that nobody answers in time: the clock is moved, and what is due is done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.gates import Gates
from tests.support.office import (
    CODEGEN,
    DEPLOY,
    JsonObject,
    Office,
    SettableClock,
    at_office,
    body_of,
    confirming,
    plan,
)


def soon(what: str, path: str = "a") -> str:
    """Return a message that makes the call that expires after a minute as its name says."""
    return plan([(f"soon_{what}", {"path": path})])


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    async with at_office(tmp_path) as office:
        yield office


async def test_until_its_time_is_up_a_pause_waits(office: Office) -> None:
    run = await office.create(soon("rejected"))
    async with office.nothing_changes():
        assert await office.sweep_after(59) == 0
    assert (await office.get(run))["status"] == "PAUSED"


async def test_a_requirement_says_when_it_expires(office: Office) -> None:
    run = await office.create(soon("rejected"))
    assert run["requirements"][0]["expires_at"] == "2026-01-01T00:01:00+00:00"


async def test_silence_rejects_and_the_model_is_told(office: Office) -> None:
    run = await office.create(soon("rejected"))
    assert await office.sweep_after(60) == 1
    done = await office.settled(run)
    assert (done["status"], done["content"]) == ("COMPLETED", "Done. Nobody answered in time")
    assert office.executed == []
    assert [frame.event for frame in await office.frames(run)].count("RunContinued") == 1


async def test_silence_approves_where_the_tools_author_said_so(office: Office) -> None:
    run = await office.create(soon("approved"))
    assert await office.sweep_after(60) == 1
    assert (await office.settled(run))["content"] == "Done. did soon_approved(a)"
    assert await office.sweep_after(60) == 0
    assert office.executed == ["soon_approved(a)"]


async def test_silence_cancels_where_the_tools_author_said_so(office: Office) -> None:
    made = body_of(await office.client.post(CODEGEN, json={"prompt": soon("cancelled")}))
    run = {"agent_id": "office", "run_id": made["web_url"].rsplit("/", 1)[1]}
    await office.settled(run)
    assert await office.sweep_after(60) == 1
    assert (await office.get(run))["status"] == "CANCELLED"
    assert (await office.frames(run))[-1].event == "RunCancelled"
    assert body_of(await office.client.get(f"{CODEGEN}/{made['id']}"))["status"] == "TIMEOUT"
    late = await office.post_continue(run)
    assert (late.status_code, late.json()["detail"]) == (409, "run is already cancelled")


async def test_cancelling_by_time_closes_the_runs_approvals(office: Office) -> None:
    run = await office.create(plan([("soon_cancelled", {"path": "a"}), ("deploy", {"env": "prod"})]))
    assert await office.sweep_after(60) == 1
    assert (await office.approval_of(run))["status"] == "expired"
    assert office.executed == []


async def test_a_continue_after_the_time_is_told_that_it_is_late(office: Office) -> None:
    run = await office.create(soon("rejected"))
    await office.sweep_after(60)
    await office.settled(run)
    late = await office.post_continue(run, confirming(run))
    assert late.status_code == 409
    assert (late.json()["continued_via"], late.json()["decision"]) == ("expiry", "rejected")
    assert office.executed == []


async def test_an_answer_in_time_is_not_undone_by_time(office: Office) -> None:
    run = await office.create(soon("cancelled"))
    office.clock.move(59)
    assert (await office.continued(run, confirming(run)))["status"] == "COMPLETED"
    async with office.nothing_changes():
        assert await office.sweep_after(60) == 0


async def test_each_pause_of_a_run_has_its_own_time(office: Office) -> None:
    run = await office.create(plan([("soon_rejected", {"path": "a"})], [("soon_cancelled", {"path": "b"})]))
    office.clock.move(50)
    again = await office.continued(run, confirming(run))
    assert again["status"] == "PAUSED"
    assert await office.sweep_after(50) == 0
    assert await office.sweep_after(10) == 1
    assert (await office.get(run))["status"] == "CANCELLED"
    assert office.executed == ["soon_rejected(a)"]


async def test_of_two_calls_only_the_one_whose_time_is_up_is_decided(office: Office) -> None:
    run = await office.create(plan([("soon_rejected", {"path": "a"}), ("delete_file", {"path": "b"})]))
    assert await office.sweep_after(60) == 1
    waiting = await office.get(run)
    assert waiting["status"] == "PAUSED"
    assert [tool["requires_confirmation"] for tool in waiting["tools"]] == [False, True]
    assert await office.sweep_after(600) == 0
    done = await office.continued(waiting, confirming(waiting))
    assert done["content"] == "Done. Nobody answered in time did delete_file(b)"


async def test_pauses_expire_by_the_settings_where_the_tool_says_nothing(tmp_path: Path) -> None:
    async with at_office(tmp_path, pause_expires_seconds=30.0) as office:
        confirmation = await office.create(plan([("delete_file", {"path": "a"})]))
        external = await office.create(plan([("run_shell", {"command": "ls"})]))
        own = await office.create(soon("approved"))
        assert await office.sweep_after(30) == 2
        for run in (confirmation, external):
            assert (await office.settled(run))["content"] == "Done. Nobody answered in time"
        assert (await office.get(own))["status"] == "PAUSED"
        assert office.executed == []


async def test_the_settings_can_cancel_instead(tmp_path: Path) -> None:
    async with at_office(tmp_path, pause_expires_seconds=30.0, on_expire="cancel") as office:
        run = await office.create(plan([("delete_file", {"path": "a"})]))
        own = await office.create(plan([("soon_rejected", {"path": "a"})]))
        await office.sweep_after(30)
        assert (await office.get(run))["status"] == "CANCELLED"
        assert (await office.get(own))["status"] == "PAUSED"


async def test_without_a_time_nothing_ever_expires(office: Office) -> None:
    await office.create(plan([("delete_file", {"path": "a"})]))
    await office.create()
    async with office.nothing_changes():
        assert await office.sweep_after(10 * 365 * 86_400) == 0


@pytest.mark.parametrize(
    ("message", "settings"),
    [(DEPLOY, {"approval_expires_seconds": 60.0}), (plan([("deploy_soon", {"env": "prod"})]), {})],
)
async def test_an_approval_that_expires_declines_its_call(tmp_path: Path, message: str, settings: JsonObject) -> None:
    async with at_office(tmp_path, **settings) as office:
        run = await office.create(message)
        approval = await office.approval_of(run)
        assert approval["expires_at"] == int(office.clock.now().timestamp()) + 60
        assert await office.sweep_after(60) == 1
        done = await office.settled(run)
        assert done["content"] == "Done. The approval expired: nobody decided in time"
        assert office.executed == []
        assert (await office.approval_of(run))["status"] == "expired"
        assert body_of(await office.client.get("/approvals/count")) == {"count": 0}
        late = await office.resolve(approval)
        assert (late.status_code, late.json()["detail"]) == (
            409,
            "Approval is already 'expired' and cannot be resolved",
        )


async def test_the_time_for_approvals_is_not_that_of_other_pauses(tmp_path: Path) -> None:
    async with at_office(tmp_path, pause_expires_seconds=30.0, approval_expires_seconds=90.0) as office:
        run = await office.create()
        assert await office.sweep_after(89) == 0
        assert await office.sweep_after(1) == 1
        assert (await office.settled(run))["status"] == "COMPLETED"


async def test_an_approval_given_in_time_does_not_expire_afterwards(tmp_path: Path) -> None:
    async with at_office(tmp_path, approval_expires_seconds=60.0) as office:
        run = await office.create()
        body_of(await office.resolve(await office.approval_of(run)))
        async with office.nothing_changes():
            assert await office.sweep_after(600) == 0
        assert (await office.continued(run))["content"] == "Done. did deploy(prod)"


async def test_a_reminder_comes_once_before_the_time_is_up(tmp_path: Path) -> None:
    async with at_office(tmp_path, reminder_seconds=10.0) as office:
        run = await office.create(soon("rejected"))
        async with office.nothing_changes():
            await office.sweep_after(49)
        await office.sweep_after(1)
        last = (await office.frames(run))[-1]
        assert last.event == "PauseReminder"
        assert last.data["pause_id"] == run["pause_id"]
        assert last.data["expires_at"] == "2026-01-01T00:01:00+00:00"
        assert last.data["tool_call_ids"] == [run["tools"][0]["tool_call_id"]]
        assert (await office.get(run))["status"] == "PAUSED"
        async with office.nothing_changes():
            assert await office.sweep_after(5) == 0
        assert await office.sweep_after(5) == 1
        assert (await office.settled(run))["content"] == "Done. Nobody answered in time"


async def test_a_pause_whose_time_is_up_while_the_server_is_off_expires_at_its_start(tmp_path: Path) -> None:
    clock = SettableClock()
    async with at_office(tmp_path, clock) as office:
        run = await office.create(soon("approved"))
    clock.move(3600)
    async with at_office(tmp_path, clock) as office:
        await office.application.expiry.sweep()
        assert (await office.settled(run))["content"] == "Done. did soon_approved(a)"
        assert office.executed == ["soon_approved(a)"]


async def test_a_call_in_doubt_is_never_approved_by_time(tmp_path: Path) -> None:
    clock, gates = SettableClock(), Gates("cut-off")
    # `hold` itself is approved by silence.
    message = plan([("hold", {"name": "cut-off"})])
    settings: JsonObject = {"shutdown_grace_seconds": 0.0, "pause_expires_seconds": 60.0}
    async with at_office(tmp_path, clock, gates, **settings) as office:
        run = await office.create(message)
        await office.post_continue(run, confirming(run), background="true")
        await gates.reached("cut-off")
    async with at_office(tmp_path, clock, gates, **settings) as office:
        doubtful = await office.settled(run)
        assert doubtful["status"] == "PAUSED"
        assert doubtful["requirements"][-1]["in_doubt"] is True
        assert await office.sweep_after(60) == 1
        done = await office.settled(run)
        assert (done["status"], done["content"]) == ("COMPLETED", "Done. Nobody answered in time")
        assert office.executed == []
