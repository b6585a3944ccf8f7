"""Cancelling a run, wherever it stands: it ends there and then, and stays ended."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.support.caller import body_of, confirming, path_of
from tests.support.gates import Gates
from tests.support.server import Server, served
from tests.support.toolbox import JsonObject, plan
from unpause.domain.events import EventType

HOLD = plan([("hold", {"name": "door"})])


async def ends_cancelled(server: Server, run: JsonObject) -> list[str]:
    """Fail unless the run is cancelled in every respect; return the names of its events."""
    found = await server.read(run)
    assert (found["status"], found["content"]) == ("CANCELLED", f"Run {run['run_id']} was cancelled")
    assert "pause_id" not in found
    frames = await server.frames(run)
    assert frames[-1].data["reason"] == f"Run {run['run_id']} was cancelled"
    late = await server.post_continue(run)
    assert (late.status_code, late.json()["detail"]) == (409, "run is already cancelled")
    events = [frame.event for frame in frames]
    assert events.count("RunCancelled") == 1
    assert events[-1] == "RunCancelled"
    return events


async def test_a_run_inside_a_tool_is_cancelled_and_the_tools_end_is_not_recorded(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates) as server:
        run = await server.create(HOLD)
        async with asyncio.TaskGroup() as tasks:
            streamed = tasks.create_task(server.post_continue(run, confirming(run), stream="true"))
            await gates.reached("door")
            assert body_of(await server.cancel(run)) == {}
            stream = await streamed
        gates.open("door")
        assert stream.text.rstrip().rsplit("event: ", 1)[1].startswith("RunCancelled\n")
        events = await ends_cancelled(server, run)
        assert "ToolCallStarted" in events
        assert "ToolCallCompleted" not in events
        assert server.executed == ["hold(door)"]


async def test_a_run_inside_a_model_request_is_cancelled(tmp_path: Path) -> None:
    gates = Gates("think")
    async with served(tmp_path, gates=gates) as server:
        run = await server.begin("hello")
        await gates.reached("think")
        await server.logged(EventType.MODEL_REQUEST_STARTED)
        assert (await server.read(run))["status"] == "RUNNING"
        body_of(await server.cancel(run))
        assert (await ends_cancelled(server, run))[-2:] == ["ModelRequestStarted", "RunCancelled"]


async def test_a_run_that_has_not_begun_never_begins(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates, max_running=1) as server:
        first = await server.create(HOLD)
        await server.post_continue(first, confirming(first), background="true")
        await gates.reached("door")
        waiting = await server.begin(plan([("note", {"text": "never"})]))
        assert (await server.read(waiting))["status"] == "PENDING"
        body_of(await server.cancel(waiting))
        gates.open("door")
        assert (await server.settled(first))["status"] == "COMPLETED"
        assert (await server.create(plan([("note", {"text": "after"})])))["status"] == "COMPLETED"
        assert await ends_cancelled(server, waiting) == ["RunStarted", "RunCancelled"]
        assert server.executed == ["hold(door)", "note(after)"]


async def test_a_cancelled_run_gives_its_place_to_the_next(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates, max_running=1) as server:
        run = await server.create(HOLD)
        await server.post_continue(run, confirming(run), background="true")
        await gates.reached("door")
        body_of(await server.cancel(run))
        assert (await server.create("hello"))["status"] == "COMPLETED"


async def test_a_paused_run_is_cancelled_at_once_with_its_approvals(server: Server) -> None:
    run = await server.create(
        plan([("deploy", {"env": "a"}), ("deploy", {"env": "b"}), ("delete_file", {"path": "c"})])
    )
    decided = (await server.approvals())[0]
    body_of(await server.resolve(decided))
    body_of(await server.cancel(run))
    assert Counter(item["status"] for item in await server.approvals()) == {"approved": 1, "cancelled": 1}
    assert {item["run_status"] for item in await server.approvals()} == {"CANCELLED"}
    assert body_of(await server.get("/approvals/count")) == {"count": 0}
    assert (await ends_cancelled(server, run))[-2:] == ["RunPaused", "RunCancelled"]
    assert server.executed == []


@pytest.mark.parametrize("status", ["COMPLETED", "CANCELLED"])
async def test_a_run_that_has_ended_stays_as_it_is(server: Server, status: str) -> None:
    run = await server.create("hello" if status == "COMPLETED" else HOLD)
    if status == "CANCELLED":
        body_of(await server.cancel(run))
    async with server.nothing_changes():
        assert body_of(await server.cancel(run)) == {}
    assert (await server.read(run))["status"] == status


async def test_an_unknown_run_is_not_found_and_leaves_nothing_behind(server: Server) -> None:
    run = await server.create("hello")
    async with server.nothing_changes():
        for path, detail in (
            ("/agents/toolbox/runs/nope/cancel", "Run not found"),
            (f"/agents/other/runs/{run['run_id']}/cancel", "Run not found"),
            (f"/agents/nobody/runs/{run['run_id']}/cancel", "Agent not found"),
        ):
            response = await server.client.post(path)
            assert (response.status_code, response.json()) == (404, {"detail": detail})


async def test_a_cancel_outlives_a_restart(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates) as server:
        paused = await server.create(plan([("delete_file", {"path": "a"})]))
        held = await server.create(HOLD)
        await server.post_continue(held, confirming(held), background="true")
        await gates.reached("door")
        for run in (paused, held):
            body_of(await server.cancel(run))
    gates.open("door")
    async with served(tmp_path, gates=gates) as server:
        for run in (paused, held):
            await ends_cancelled(server, run)
        assert server.executed == []


async def test_a_cancel_and_a_continue_at_once_leave_one_truth(server: Server) -> None:
    for number in range(8):
        run = await server.create(plan([("delete_file", {"path": str(number)})]))
        requests = [server.post_continue(run, confirming(run)), server.cancel(run), server.cancel(run)]
        answers = await asyncio.gather(*(requests if number % 2 else reversed(requests)))
        found = await server.settled(run)
        assert found["status"] in {"COMPLETED", "CANCELLED"}
        assert server.executed.count(f"delete_file({number})") <= 1
        events = [frame.event for frame in await server.frames(run)]
        assert events[-1] == {"COMPLETED": "RunCompleted", "CANCELLED": "RunCancelled"}[found["status"]]
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses[:2] == [200, 200], "a cancel always succeeds"
        assert statuses[2] in {200, 409}


async def test_the_path_of_a_run_takes_no_other_method_for_cancel(server: Server) -> None:
    run = await server.create("hello")
    response = await server.get(f"{path_of(run)}/cancel")
    assert (response.status_code, response.json()) == (405, {"detail": "Method Not Allowed"})
