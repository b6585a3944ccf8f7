"""Pauses that nobody answers in time: the clock is moved, and what is due is done."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.caller import CODEGEN, body_of, confirming
from tests.support.gates import Gates
from tests.support.server import Server, SettableClock, served
from tests.support.toolbox import DEPLOY, JsonObject, plan


def soon(what: str, path: str = "a") -> str:
    """Return a message that makes the call that expires after a minute as its name says."""
    return plan([(f"soon_{what}", {"path": path})])


async def test_until_its_time_is_up_a_pause_waits(server: Server) -> None:
    run = await server.create(soon("rejected"))
    async with server.nothing_changes():
        assert await server.sweep_after(59) == 0
    assert (await server.read(run))["status"] == "PAUSED"


async def test_a_requirement_says_when_it_expires(server: Server) -> None:
    run = await server.create(soon("rejected"))
    assert run["requirements"][0]["expires_at"] == "2026-01-01T00:01:00+00:00"


async def test_silence_rejects_and_the_model_is_told(server: Server) -> None:
    run = await server.create(soon("rejected"))
    assert await server.sweep_after(60) == 1
    done = await server.settled(run)
    assert (done["status"], done["content"]) == ("COMPLETED", "Done. soon_rejected: Nobody answered in time.")
    assert server.executed == []
    assert [frame.event for frame in await server.frames(run)].count("RunContinued") == 1


async def test_silence_approves_where_the_tools_author_said_so(server: Server) -> None:
    run = await server.create(soon("approved"))
    assert await server.sweep_after(60) == 1
    assert (await server.settled(run))["content"] == "Done. soon_approved: did soon_approved(a)."
    assert await server.sweep_after(60) == 0
    assert server.executed == ["soon_approved(a)"]


async def test_silence_cancels_where_the_tools_author_said_so(server: Server) -> None:
    made = body_of(await server.post(CODEGEN, {"prompt": soon("cancelled")}))
    run = {"agent_id": "toolbox", "run_id": made["web_url"].rsplit("/", 1)[1]}
    await server.settled(run)
    assert await server.sweep_after(60) == 1
    assert (await server.read(run))["status"] == "CANCELLED"
    assert (await server.frames(run))[-1].event == "RunCancelled"
    assert body_of(await server.get(f"{CODEGEN}/{made['id']}"))["status"] == "TIMEOUT"
    late = await server.post_continue(run)
    assert (late.status_code, late.json()["detail"]) == (409, "run is already cancelled")


async def test_cancelling_by_time_closes_the_runs_approvals(server: Server) -> None:
    run = await server.create(plan([("soon_cancelled", {"path": "a"}), ("deploy", {"env": "prod"})]))
    assert await server.sweep_after(60) == 1
    assert (await server.approval_of(run))["status"] == "expired"
    assert server.executed == []


async def test_a_continue_after_the_time_is_told_that_it_is_late(server: Server) -> None:
    run = await server.create(soon("rejected"))
    await server.sweep_after(60)
    await server.settled(run)
    late = await server.post_continue(run, confirming(run))
    assert late.status_code == 409
    assert (late.json()["continued_via"], late.json()["decision"]) == ("expiry", "rejected")
    assert server.executed == []


async def test_an_answer_in_time_is_not_undone_by_time(server: Server) -> None:
    run = await server.create(soon("cancelled"))
    server.clock.move(59)
    assert (await server.continued(run, confirming(run)))["status"] == "COMPLETED"
    async with server.nothing_changes():
        assert await server.sweep_after(60) == 0


async def test_each_pause_of_a_run_has_its_own_time(server: Server) -> None:
    run = await server.create(plan([("soon_rejected", {"path": "a"})], [("soon_cancelled", {"path": "b"})]))
    server.clock.move(50)
    again = await server.continued(run, confirming(run))
    assert again["status"] == "PAUSED"
    assert await server.sweep_after(50) == 0
    assert await server.sweep_after(10) == 1
    assert (await server.read(run))["status"] == "CANCELLED"
    assert server.executed == ["soon_rejected(a)"]


async def test_of_two_calls_only_the_one_whose_time_is_up_is_decided(server: Server) -> None:
    run = await server.create(plan([("soon_rejected", {"path": "a"}), ("delete_file", {"path": "b"})]))
    assert await server.sweep_after(60) == 1
    waiting = await server.read(run)
    assert waiting["status"] == "PAUSED"
    assert [tool["requires_confirmation"] for tool in waiting["tools"]] == [False, True]
    assert await server.sweep_after(600) == 0
    done = await server.continued(waiting, confirming(waiting))
    assert done["content"] == "Done. soon_rejected: Nobody answered in time. delete_file: did delete_file(b)."


async def test_pauses_expire_by_the_settings_where_the_tool_says_nothing(tmp_path: Path) -> None:
    async with served(tmp_path, pause_expires_seconds=30.0) as server:
        confirmation = await server.create(plan([("delete_file", {"path": "a"})]))
        external = await server.create(plan([("run_shell", {"command": "ls"})]))
        own = await server.create(soon("approved"))
        assert await server.sweep_after(30) == 2
        for run, tool in ((confirmation, "delete_file"), (external, "run_shell")):
            assert (await server.settled(run))["content"] == f"Done. {tool}: Nobody answered in time."
        assert (await server.read(own))["status"] == "PAUSED"
        assert server.executed == []


async def test_the_settings_can_cancel_instead(tmp_path: Path) -> None:
    async with served(tmp_path, pause_expires_seconds=30.0, on_expire="cancel") as server:
        run = await server.create(plan([("delete_file", {"path": "a"})]))
        own = await server.create(plan([("soon_rejected", {"path": "a"})]))
        await server.sweep_after(30)
        assert (await server.read(run))["status"] == "CANCELLED"
        assert (await server.read(own))["status"] == "PAUSED"


async def test_without_a_time_nothing_ever_expires(server: Server) -> None:
    await server.create(plan([("delete_file", {"path": "a"})]))
    await server.create(DEPLOY)
    async with server.nothing_changes():
        assert await server.sweep_after(10 * 365 * 86_400) == 0


@pytest.mark.parametrize(
    ("message", "settings"),
    [(DEPLOY, {"approval_expires_seconds": 60.0}), (plan([("deploy_soon", {"env": "prod"})]), {})],
)
async def test_an_approval_that_expires_declines_its_call(tmp_path: Path, message: str, settings: JsonObject) -> None:
    async with served(tmp_path, **settings) as server:
        run = await server.create(message)
        approval = await server.approval_of(run)
        assert approval["expires_at"] == int(server.clock.now().timestamp()) + 60
        assert await server.sweep_after(60) == 1
        done = await server.settled(run)
        assert done["content"] == f"Done. {approval['tool_name']}: The approval expired: nobody decided in time."
        assert server.executed == []
        assert (await server.approval_of(run))["status"] == "expired"
        assert body_of(await server.get("/approvals/count")) == {"count": 0}
        late = await server.resolve(approval)
        assert (late.status_code, late.json()["detail"]) == (
            409,
            "Approval is already 'expired' and cannot be resolved",
        )


async def test_the_time_for_approvals_is_not_that_of_other_pauses(tmp_path: Path) -> None:
    async with served(tmp_path, pause_expires_seconds=30.0, approval_expires_seconds=90.0) as server:
        run = await server.create(DEPLOY)
        assert await server.sweep_after(89) == 0
        assert await server.sweep_after(1) == 1
        assert (await server.settled(run))["status"] == "COMPLETED"


async def test_an_approval_given_in_time_does_not_expire_afterwards(tmp_path: Path) -> None:
    async with served(tmp_path, approval_expires_seconds=60.0) as server:
        run = await server.create(DEPLOY)
        body_of(await server.resolve(await server.approval_of(run)))
        async with server.nothing_changes():
            assert await server.sweep_after(600) == 0
        assert (await server.continued(run))["content"] == "Done. deploy: did deploy(prod)."


async def test_a_reminder_comes_once_before_the_time_is_up(tmp_path: Path) -> None:
    async with served(tmp_path, reminder_seconds=10.0) as server:
        run = await server.create(soon("rejected"))
        async with server.nothing_changes():
            await server.sweep_after(49)
        await server.sweep_after(1)
        last = (await server.frames(run))[-1]
        assert last.event == "PauseReminder"
        assert last.data["pause_id"] == run["pause_id"]
        assert last.data["expires_at"] == "2026-01-01T00:01:00+00:00"
        assert last.data["tool_call_ids"] == [run["tools"][0]["tool_call_id"]]
        assert (await server.read(run))["status"] == "PAUSED"
        async with server.nothing_changes():
            assert await server.sweep_after(5) == 0
        assert await server.sweep_after(5) == 1
        assert (await server.settled(run))["content"] == "Done. soon_rejected: Nobody answered in time."


async def test_a_pause_whose_time_is_up_while_the_server_is_off_expires_at_its_start(tmp_path: Path) -> None:
    clock = SettableClock()
    async with served(tmp_path, clock=clock) as server:
        run = await server.create(soon("approved"))
    clock.move(3600)
    async with served(tmp_path, clock=clock) as server:
        await server.application.expiry.sweep()
        assert (await server.settled(run))["content"] == "Done. soon_approved: did soon_approved(a)."
        assert server.executed == ["soon_approved(a)"]


async def test_a_call_in_doubt_is_never_approved_by_time(tmp_path: Path) -> None:
    clock, gates = SettableClock(), Gates("cut-off")
    # `hold` itself is approved by silence.
    message = plan([("hold", {"name": "cut-off"})])
    settings: JsonObject = {"shutdown_grace_seconds": 0.0, "pause_expires_seconds": 60.0}
    async with served(tmp_path, clock=clock, gates=gates, **settings) as server:
        run = await server.create(message)
        await server.post_continue(run, confirming(run), background="true")
        await gates.reached("cut-off")
    async with served(tmp_path, clock=clock, gates=gates, **settings) as server:
        doubtful = await server.settled(run)
        assert doubtful["status"] == "PAUSED"
        assert doubtful["requirements"][-1]["in_doubt"] is True
        assert await server.sweep_after(60) == 1
        done = await server.settled(run)
        assert (done["status"], done["content"]) == ("COMPLETED", "Done. hold: Nobody answered in time.")
        assert server.executed == []
