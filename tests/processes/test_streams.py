"""What a client sees on the wire while a run goes on, and that a run does not need anybody to look."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from urllib.parse import urlencode

import httpx
import pytest

from tests.processes.conversation import (
    RUNS,
    begin_to_continue,
    calls_of,
    confirming,
    continue_path,
    create_run,
    read_frames,
    read_run,
    read_settled_run,
)
from tests.support.processes import DEADLINE, Barrier, ServerProcess


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("streams"), "--keepalive-seconds", "1") as server:
        yield server


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def test_a_client_that_leaves_a_streamed_continue_does_not_stop_its_run(
    server: ServerProcess, client: httpx.Client
) -> None:
    with Barrier(server.folder, "left") as door:
        run = create_run(client, "guarded left")
        with (
            server.client() as leaving,
            leaving.stream("POST", continue_path(run), data={"tools": confirming(run)}) as it,
        ):
            assert next(read_frames(it.iter_lines())).event == "RunContinued"
            door.wait_for_arrival()
        assert read_run(client, run)["status"] == "RUNNING"
        door.let_go()
        done = read_settled_run(client, run)
        assert not door.is_awaited()
    assert (done["status"], done["content"]) == ("COMPLETED", "Told: did guarded left")
    assert calls_of(server, "left") == ["guarded left"]


def test_a_client_that_leaves_a_continue_without_a_stream_does_not_stop_its_run(
    server: ServerProcess, client: httpx.Client
) -> None:
    with Barrier(server.folder, "hung-up") as door:
        run = create_run(client, "guarded hung-up")
        form = urlencode({"tools": confirming(run), "stream": "false"})
        head = [
            f"POST {continue_path(run)} HTTP/1.1",
            f"Host: {client.base_url.host}",
            "Content-Type: application/x-www-form-urlencoded",
            f"Content-Length: {len(form)}",
        ]
        with socket.create_connection((client.base_url.host, client.base_url.port or 0), DEADLINE) as leaving:
            leaving.sendall("\r\n".join([*head, "", form]).encode())
            door.wait_for_arrival()
        assert read_run(client, run)["status"] == "RUNNING"
        door.let_go()
        assert read_settled_run(client, run)["status"] == "COMPLETED"
    assert calls_of(server, "hung-up") == ["guarded hung-up"]


def test_events_arrive_while_the_run_goes_on(server: ServerProcess, client: httpx.Client) -> None:
    with (
        Barrier(server.folder, "halfway") as door,
        client.stream("POST", RUNS, data={"message": "pieces halfway"}) as response,
    ):
        frames = read_frames(response.iter_lines())
        before = [next(frames) for _ in range(3)]
        assert [frame.event for frame in before] == ["RunStarted", "ModelRequestStarted", "RunContent"]
        assert before[-1].data["content"] == "first half, "
        door.wait_for_arrival()
        with server.client() as other:
            assert read_run(other, before[0].data)["status"] == "RUNNING"
        door.let_go()
        after = list(frames)
    assert after[0].data["content"] == "second half"
    assert [frame.event for frame in after[1:]] == ["ModelRequestCompleted", "RunContentCompleted", "RunCompleted"]
    assert after[-1].data["content"] == "first half, second half"
    assert [frame.id for frame in (*before, *after)] == [str(number) for number in range(1, 8)]


def test_a_silent_stream_is_kept_alive_by_comments(server: ServerProcess, client: httpx.Client) -> None:
    script = "think silent: say Done."
    with (
        Barrier(server.folder, "silent") as door,
        client.stream("POST", RUNS, data={"message": script}) as response,
    ):
        lines = response.iter_lines()
        assert next(line for line in lines if line.startswith(":")) == ": keepalive"
        door.let_go()
        assert [frame.event for frame in read_frames(lines)][-1] == "RunCompleted"


def test_a_stream_on_the_wire_is_utf_8_unescaped_with_lf_line_ends_and_ids(client: httpx.Client) -> None:
    words = "say Größe 東京 🚀"
    with client.stream("POST", RUNS, data={"message": words}) as response:
        raw = b"".join(response.iter_raw())
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["x-accel-buffering"] == "no"
    assert b"\r" not in raw
    assert "東京".encode() in raw
    assert "🚀".encode() in raw
    assert b"\\u" not in raw
    # Without the comments of a moment in which the machine stood still.
    frames = [frame for frame in raw.decode().split("\n\n") if not frame.startswith(":")]
    assert frames.pop() == ""
    for number, frame in enumerate(frames, 1):
        lines = dict(line.split(": ", 1) for line in frame.split("\n"))
        assert lines.keys() == {"id", "event", "data"}
        assert lines["id"] == str(number)
        assert json.loads(lines["data"])["event"] == lines["event"]


def test_a_continued_stream_begins_where_the_pause_ended(client: httpx.Client) -> None:
    with client.stream("POST", RUNS, data={"message": "delete late"}) as response:
        first = list(read_frames(response.iter_lines()))
    assert first[-1].event == "RunPaused"
    run = first[-1].data
    with client.stream("POST", continue_path(run), data={"tools": confirming(run)}) as response:
        second = list(read_frames(response.iter_lines()))
    assert [frame.event for frame in second[:3]] == ["RunContinued", "ToolCallStarted", "ToolCallCompleted"]
    assert second[-1].event == "RunCompleted"
    assert int(second[0].id) == int(first[-1].id) + 1


def test_a_client_that_leaves_at_once_still_had_its_continue_accepted(
    server: ServerProcess, client: httpx.Client
) -> None:
    run = create_run(client, "delete hasty")
    with server.client() as leaving:
        begin_to_continue(leaving, run, confirming(run))
    assert read_settled_run(client, run)["status"] == "COMPLETED"
    assert calls_of(server, "hasty") == ["delete hasty"]
