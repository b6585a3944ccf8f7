"""Attaching to a run again: by Last-Event-ID and by AgentOS's own /resume, at any event and at any time."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.support.caller import RUNS, body_of, confirming, path_of
from tests.support.frames import Frame, read_frames
from tests.support.gates import Gates
from tests.support.server import Server, served
from tests.support.toolbox import DEPLOY, JsonObject, plan

HOLD = plan([("hold", {"name": "door"})])
# Many more events than a page of the log holds would take long to make; many more than one segment has will do.
LONG = plan(*([("note", {"text": str(number)})] for number in range(5)), [("delete_file", {"path": "a"})])


async def resume(server: Server, run: JsonObject, **form: str) -> httpx.Response:
    """Re-attach as AgentOS 3.1.10 does."""
    return await server.client.post(f"{path_of(run)}/resume", data=form)


async def finished(server: Server) -> JsonObject:
    """Return a completed run of two segments."""
    run = await server.create(LONG)
    await server.continued(run, confirming(run))
    return run


async def test_the_whole_log_is_numbered_without_gaps_and_says_so_twice(server: Server) -> None:
    run = await finished(server)
    frames = await server.frames(run)
    assert [frame.id for frame in frames] == [str(number) for number in range(1, len(frames) + 1)]
    assert [frame.data["event_index"] for frame in frames] == list(range(len(frames)))
    assert [frame.event for frame in frames] == [frame.data["event"] for frame in frames]


async def test_what_was_streamed_is_what_is_read_again(server: Server) -> None:
    created = await server.form(RUNS, message=LONG, stream="true")
    run = read_frames(created.text)[-1].data
    continued = await server.post_continue(run, confirming(run), stream="true")
    assert await server.frames(run) == read_frames(created.text + continued.text)


async def test_after_any_event_exactly_the_later_ones_follow(server: Server) -> None:
    run = await finished(server)
    frames = await server.frames(run)
    for number in range(len(frames)):
        assert await server.frames(run, str(number)) == frames[number:]


async def test_a_last_event_id_that_is_no_number_is_refused(server: Server) -> None:
    for text in ("abc", "-1", "1.5", "1 2", "0x1", "--1", "99999999999999999999", "1e3"):
        run = await server.create("hello")
        response = await server.client.get(f"{path_of(run)}/events", headers={"Last-Event-ID": text})
        assert response.status_code == 400
        assert response.json() == {"detail": "Last-Event-ID must be the number of an event"}


async def test_a_last_event_index_that_is_no_number_is_refused(server: Server) -> None:
    for text in ("abc", "-2", "1.5", "--1"):
        run = await server.create("hello")
        response = await resume(server, run, last_event_index=text)
        assert response.status_code == 400
        assert response.json() == {"detail": "last_event_index must be the number of an event"}


async def test_a_run_that_cannot_be_named_is_refused_before_the_stream(server: Server) -> None:
    run = await server.create("hello", session_id="s")
    paths = {
        "/agents/toolbox/runs/nope": "Run not found",
        f"/agents/other/runs/{run['run_id']}": "Run not found",
        f"/agents/nobody/runs/{run['run_id']}": "Agent not found",
    }
    for path, detail in paths.items():
        for answer in (await server.get(f"{path}/events"), await server.client.post(f"{path}/resume")):
            assert (answer.status_code, answer.json()) == (404, {"detail": detail})
    wrong = await server.client.get(f"{path_of(run)}/events", params={"session_id": "t"})
    assert wrong.status_code == (await resume(server, run, session_id="t")).status_code == 404


async def test_the_log_outlives_a_restart(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        run = await finished(server)
        frames = await server.frames(run)
        answer = await resume(server, run, last_event_index="3")
    async with served(tmp_path) as server:
        assert await server.frames(run) == frames
        assert await server.frames(run, "4") == frames[4:]
        assert (await resume(server, run, last_event_index="3")).text == answer.text


async def held(server: Server, gates: Gates) -> JsonObject:
    """Return a run whose second segment stands at the gate."""
    run = await server.create(HOLD)
    await server.post_continue(run, confirming(run), background="true")
    await gates.reached("door")
    return run


async def test_a_live_run_is_followed_from_its_past_to_its_end(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates) as server:
        run = await held(server, gates)
        async with asyncio.TaskGroup() as tasks:
            following = [tasks.create_task(server.frames(run, text)) for text in (None, "0", "3", "7")]
            await server.followed_by(len(following))
            gates.open("door")
        whole = await server.frames(run)
        assert whole[-1].event == "RunCompleted"
        assert following[0].result() == following[1].result() == whole
        assert following[2].result() == whole[3:]
        assert following[3].result() == whole[7:]


async def test_a_settled_run_is_replayed_with_a_word_before(server: Server) -> None:
    run = await finished(server)
    whole = await server.frames(run)
    answer = await resume(server, run, last_event_index="2")
    reported, *frames = read_frames(answer.text)
    count = len(whole)
    assert reported == Frame(
        "replay",
        None,
        {
            "event": "replay",
            "run_id": run["run_id"],
            "status": "COMPLETED",
            "total_events": count - 3,
            "total_buffered": count,
            "last_event_index_requested": 2,
            "message": f"Run COMPLETED. Replaying {count - 3} missed events (of {count} total).",
        },
    )
    assert answer.text.split("\n")[1].startswith('data: {"event": "replay", "run_id": ')
    assert frames == whole[3:]


@pytest.mark.parametrize("form", [{}, {"last_event_index": "-1"}, {"last_event_index": ""}])
async def test_without_an_index_everything_is_replayed(server: Server, form: dict[str, str]) -> None:
    run = await server.create(LONG)
    reported, *frames = read_frames((await resume(server, run, **form)).text)
    assert (reported.data["status"], reported.data["last_event_index_requested"]) == ("PAUSED", -1)
    assert frames == await server.frames(run)


async def test_a_live_run_is_caught_up_with_and_then_subscribed_to(tmp_path: Path) -> None:
    gates = Gates("door")
    async with served(tmp_path, gates=gates) as server:
        run = await held(server, gates)
        count = 7
        async with asyncio.TaskGroup() as tasks:
            behind = tasks.create_task(resume(server, run, last_event_index="1"))
            level = tasks.create_task(resume(server, run, last_event_index=str(count - 1)))
            await server.followed_by(2)
            gates.open("door")
        whole = await server.frames(run)
        subscribed = {
            "event": "subscribed",
            "run_id": run["run_id"],
            "status": "running",
            "current_event_count": count,
            "message": "Subscribed to agent run. Receiving live events.",
        }
        caught_up, *rest = read_frames(behind.result().text)
        assert caught_up.data == {
            "event": "catch_up",
            "run_id": run["run_id"],
            "status": "running",
            "missed_events": count - 2,
            "current_event_count": count,
            "message": f"Catching up on {count - 2} missed events.",
        }
        assert rest == [*whole[2:count], Frame("subscribed", None, subscribed), *whole[count:]]
        assert read_frames(level.result().text) == [Frame("subscribed", None, subscribed), *whole[count:]]


async def test_a_paused_run_is_told_to_its_pause(server: Server) -> None:
    run = await server.create(DEPLOY)
    frames = await server.frames(run)
    assert frames[-1].event == "RunPaused"
    assert frames[-1].data["pause_id"] == run["pause_id"]
    body_of(await server.resolve(await server.approval_of(run)))
    assert await server.frames(run) == frames
