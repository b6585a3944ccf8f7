"""Weaknesses of streams: clients that hang up, streams that cannot be taken up again, ends that are none."""

from __future__ import annotations

import threading

import httpx
import pytest

from tests.processes.exchange import (
    RUNS,
    Frame,
    begin,
    body_of,
    calls_of,
    confirming,
    create,
    events_of,
    iterate_frames,
    leave_after_first_event,
    path_of,
    post_continue,
    read,
    settled,
)
from tests.support.processes import DEADLINE, Barrier, ServerProcess


@pytest.mark.weakness(8)
def test_a_client_that_hangs_up_in_a_streamed_continue_loses_nothing(
    server: ServerProcess, client: httpx.Client
) -> None:
    with Barrier(server.folder, "hung-up") as door:
        run = create(client, "guarded hung-up")
        with server.client() as leaving:
            form = {"tools": confirming(run)}
            assert leave_after_first_event(leaving, f"{path_of(run)}/continue", form).event == "RunContinued"
        door.wait_for_arrival()
        assert read(client, run)["status"] == "RUNNING"
        door.let_go()
        done = settled(client, run)
    assert (done["status"], done["content"]) == ("COMPLETED", "Told: did guarded hung-up")
    assert post_continue(client, run, confirming(run)).status_code == 409
    assert calls_of(server, "hung-up") == ["guarded hung-up"]


@pytest.mark.weakness(9)
def test_a_client_that_hangs_up_in_a_streamed_create_has_its_run(server: ServerProcess, client: httpx.Client) -> None:
    with Barrier(server.folder, "left") as door:
        with server.client() as leaving:
            started = leave_after_first_event(leaving, RUNS, {"message": "think left: write left"})
        door.wait_for_arrival()
        assert read(client, started.data)["status"] == "RUNNING"
        door.let_go()
        done = settled(client, started.data)
    assert (done["status"], done["content"]) == ("COMPLETED", "Told: did write left")


@pytest.mark.weakness(16)
def test_a_refused_request_is_no_200_and_a_failed_model_keeps_the_shape_clients_read(client: httpx.Client) -> None:
    """What is refused has a status that says so. A run whose model failed is a run: 200 with ERROR, as on the wire."""
    failed = create(client, "fail")
    assert (failed["status"], failed["content"]) == ("ERROR", "the model broke")
    assert read(client, failed)["status"] == "ERROR", "and it is kept"
    assert events_of(client, failed)[-1].event == "RunError"
    late = post_continue(client, failed)
    assert (late.status_code, late.json()["detail"]) == (409, "run is already errored")
    for stream in ("true", "false"):
        assert post_continue(client, {"run_id": "nope"}, stream=stream).status_code == 404
        assert post_continue(client, create(client, "delete x"), stream=stream).status_code == 400


@pytest.mark.weakness(19)
def test_a_stream_is_taken_up_after_any_event_on_any_connection(server: ServerProcess, client: httpx.Client) -> None:
    with Barrier(server.folder, "resumed") as door:
        run = create(client, "guarded resumed")
        form = {"tools": confirming(run)}
        with (
            server.client() as broken,
            broken.stream("POST", f"{path_of(run)}/continue", data=form) as response,
        ):
            lines = response.iter_lines()
            frames = iterate_frames(lines)
            seen = [next(frames), next(frames)]
            door.wait_for_arrival()
            assert next(line for line in lines if line.startswith(":")) == ": keepalive"
        rest: list[Frame] = []
        last = seen[-1].id or ""
        follower = threading.Thread(target=lambda: rest.extend(events_of(client, run, last)))
        follower.start()
        door.let_go()
        follower.join(DEADLINE)
    whole = events_of(client, run)
    assert [frame.id for frame in whole] == [str(number) for number in range(1, len(whole) + 1)]
    assert whole[: int(last)][-2:] == seen
    assert rest == whole[int(last) :]
    assert whole[-1].event == "RunCompleted"
    server.stop()
    server.start()
    with server.client() as later:
        assert events_of(later, run) == whole, "no event was only in memory"


@pytest.mark.weakness(20)
def test_a_runs_status_can_be_seen_while_it_works(server: ServerProcess) -> None:
    with (
        server.client() as other,
        Barrier(server.folder, "creating") as creating,
        Barrier(server.folder, "working") as working,
    ):
        script = "think creating: guarded working"
        made: list[Frame] = []
        with other.stream("POST", RUNS, data={"message": script}) as response:
            frames = iterate_frames(response.iter_lines())
            made.append(next(frames))
            creating.wait_for_arrival()
            with server.client() as looking:
                assert read(looking, made[0].data)["status"] == "RUNNING"
            creating.let_go()
            made.extend(frames)
        with server.client() as looking:
            paused = read(looking, made[0].data)
            assert paused["status"] == "PAUSED"
            body_of(post_continue(looking, paused, confirming(paused), background="true"), 202)
            working.wait_for_arrival()
            assert read(looking, paused)["status"] == "RUNNING"
            working.let_go()
            assert settled(looking, paused)["status"] == "COMPLETED"


@pytest.mark.weakness(24)
def test_a_cancelled_runs_stream_ends_with_run_cancelled(server: ServerProcess) -> None:
    with server.client() as client, Barrier(server.folder, "stopped") as door:
        run = begin(client, "think stopped")
        door.wait_for_arrival()
        with server.client() as other, other.stream("GET", f"{path_of(run)}/events") as response:
            frames = iterate_frames(response.iter_lines())
            assert next(frames).event == "RunStarted"
            body_of(client.post(f"{path_of(run)}/cancel"))
            rest = [frame.event for frame in frames]
        assert rest[-1] == "RunCancelled"
        door.let_go()
        assert [frame.event for frame in events_of(client, run)] == ["RunStarted", *rest]
        assert read(client, run)["status"] == "CANCELLED"
