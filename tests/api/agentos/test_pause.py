"""Asking a run to pause: what each status answers, what a paused run shows, and what sends it on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.caller import CODEGEN, body_of, confirming, path_of
from tests.support.gates import Gates
from tests.support.server import Server, served
from tests.support.toolbox import JsonObject, plan

HOLD = plan([("hold", {"name": "door"})])
AWAITED = "The run was paused on request. Resume it with a prompt to send it on."


async def at_the_door(server: Server, gates: Gates, message: str = HOLD) -> JsonObject:
    """Return a run that stands in the tool ``hold``."""
    run = await server.create(message)
    body_of(await server.post_continue(run, confirming(run), background="true"), 202)
    await gates.reached("door")
    return run


async def paused_at_the_door(server: Server, gates: Gates, message: str = HOLD) -> JsonObject:
    """Return a run that was asked to pause in the tool ``hold``, and did."""
    run = await at_the_door(server, gates, message)
    await server.pause(run)
    gates.open("door")
    return await server.settled(run)


async def test_a_running_run_pauses_with_nothing_to_answer(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates) as server:
        paused = await paused_at_the_door(server, gates)
        assert (paused["status"], paused["content"]) == ("PAUSED", "The run was paused.")
        assert paused["tools"][0]["result"] == "did hold(door)"
        assert [item["tool_execution"]["confirmed"] for item in paused["requirements"]] == [True]
        last = (await server.frames(paused))[-1]
        assert (last.event, last.data["pause_id"]) == ("RunPaused", paused["pause_id"])
        assert last.data["tools"] == paused["tools"]
        codegen = body_of(await server.get(f"{CODEGEN}/1"))
        assert (codegen["status"], codegen["result"]) == ("PAUSED", AWAITED)
        done = await server.continued(paused)
    assert (done["status"], server.executed) == ("COMPLETED", ["hold(door)"])


async def test_a_follower_sees_the_pause_and_its_stream_ends_there(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates) as server:
        run = await server.create(HOLD)
        async with asyncio.TaskGroup() as tasks:
            streamed = tasks.create_task(server.post_continue(run, confirming(run), stream="true"))
            await gates.reached("door")
            followed = tasks.create_task(server.frames(run))
            await server.followed_by(2)
            await server.pause(run)
            gates.open("door")
        assert streamed.result().text.rstrip().rsplit("event: ", 1)[1].startswith("RunPaused\n")
        assert [frame.event for frame in followed.result()][-2:] == ["RunContentCompleted", "RunPaused"]


async def test_a_run_that_has_not_begun_pauses_before_its_first_model_request(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates, max_running=1) as server:
        first = await at_the_door(server, gates)
        waiting = await server.begin(plan([("note", {"text": "later"})]))
        await server.pause(waiting)
        assert (await server.read(waiting))["status"] == "PENDING"
        gates.open("door")
        assert (await server.settled(first))["status"] == "COMPLETED"
        paused = await server.settled(waiting)
        assert (paused["status"], paused["tools"], paused["messages"]) == ("PAUSED", [], [])
        events = [frame.event for frame in await server.frames(waiting)]
        assert events == ["RunStarted", "RunContentCompleted", "RunPaused"]
        done = await server.continued(paused)
    assert (done["status"], server.executed) == ("COMPLETED", ["hold(door)", "note(later)"])


async def test_a_paused_run_stays_as_it_is(server: Server) -> None:
    run = await server.create(plan([("delete_file", {"path": "a"})]))
    async with server.nothing_changes():
        await server.pause(run)
    done = await server.continued(run, confirming(run))
    assert (done["status"], server.executed) == ("COMPLETED", ["delete_file(a)"])


async def test_a_wish_that_another_pause_fulfils_is_forgotten(tmp_path: Path) -> None:
    gates = Gates("think")
    async with served(tmp_path, gates=gates) as server:
        run = await server.begin(plan([("delete_file", {"path": "a"})]))
        await gates.reached("think")
        await server.pause(run)
        gates.open("think")
        paused = await server.settled(run)
        assert [tool["requires_confirmation"] for tool in paused["tools"]] == [True]
        done = await server.continued(paused, confirming(paused))
    assert (done["status"], server.executed) == ("COMPLETED", ["delete_file(a)"])


@pytest.mark.parametrize("status", ["COMPLETED", "CANCELLED"])
async def test_a_run_that_has_ended_is_a_conflict(server: Server, status: str) -> None:
    run = await server.create("hello" if status == "COMPLETED" else HOLD)
    if status == "CANCELLED":
        body_of(await server.cancel(run))
    async with server.nothing_changes():
        response = await server.client.post(f"{path_of(run)}/pause")
        assert response.status_code == 409
        assert response.json()["detail"] == f"run has ended: {status}"
        assert response.json()["status"] == status


async def test_an_unknown_run_is_not_found_and_leaves_nothing_behind(server: Server) -> None:
    run = await server.create("hello")
    async with server.nothing_changes():
        for path, detail in (
            ("/agents/toolbox/runs/nope/pause", "Run not found"),
            (f"/agents/other/runs/{run['run_id']}/pause", "Run not found"),
            (f"/agents/nobody/runs/{run['run_id']}/pause", "Agent not found"),
        ):
            response = await server.client.post(path)
            assert (response.status_code, response.json()) == (404, {"detail": detail})


async def test_the_pause_has_an_id_and_a_stale_one_is_a_conflict(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates) as server:
        paused = await paused_at_the_door(server, gates)
        async with server.nothing_changes():
            assert (await server.post_continue(paused, pause_id="an-older-one")).status_code == 409
        done = await server.continued(paused, pause_id=paused["pause_id"])
        assert done["status"] == "COMPLETED"
        assert (await server.post_continue(paused, pause_id=paused["pause_id"])).status_code == 409


async def test_tools_of_other_runs_are_refused(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates) as server:
        paused = await paused_at_the_door(server, gates)
        async with server.nothing_changes():
            response = await server.post_continue(paused, [{"tool_call_id": "nobody's", "confirmed": True}])
        assert response.status_code == 400
        assert "nobody's" in response.json()["detail"]


async def test_the_answer_to_an_earlier_pause_does_not_send_the_run_on_when_it_comes_again(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates) as server:
        requested = await server.create(plan([("note", {"text": "a"}), ("hold", {"name": "door"})]))
        body_of(await server.post_continue(requested, requested["tools"], background="true"), 400)
        answer = [{**tool, "confirmed": True} for tool in requested["tools"]]
        body_of(await server.post_continue(requested, answer, background="true"), 202)
        await gates.reached("door")
        await server.pause(requested)
        gates.open("door")
        paused = await server.settled(requested)
        assert paused["status"] == "PAUSED"
        async with server.nothing_changes():
            again = await server.post_continue(requested, answer)
        assert (again.status_code, again.json()["status"]) == (409, "PAUSED")
        # What the run shows now is an answer to this pause.
        assert (await server.continued(paused, paused["tools"]))["status"] == "COMPLETED"


async def test_an_echo_of_calls_that_are_held_sends_the_run_on(tmp_path: Path) -> None:
    gates = Gates("think")
    async with served(tmp_path, gates=gates) as server:
        run = await server.begin(plan([("note", {"text": "a"})]))
        await gates.reached("think")
        await server.pause(run)
        gates.open("think")
        paused = await server.settled(run)
        assert [tool["result"] for tool in paused["tools"]] == [None]
        done = await server.continued(paused, paused["tools"])
    assert (done["status"], server.executed) == ("COMPLETED", ["note(a)"])


async def test_a_paused_run_can_be_cancelled(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates) as server:
        paused = await paused_at_the_door(server, gates)
        body_of(await server.cancel(paused))
        assert (await server.read(paused))["status"] == "CANCELLED"


async def test_the_path_of_a_run_takes_no_other_method_for_pause(server: Server) -> None:
    run = await server.create("hello")
    response = await server.get(f"{path_of(run)}/pause")
    assert (response.status_code, response.json()) == (405, {"detail": "Method Not Allowed"})
