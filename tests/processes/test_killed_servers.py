"""Weaknesses of a server that is killed or restarted: a tool that runs twice, a run that never ends, a lost cancel."""

from __future__ import annotations

import httpx
import pytest

from tests.processes.exchange import (
    begin,
    body_of,
    calls_of,
    confirming,
    create,
    events_of,
    path_of,
    post_continue,
    read,
    row_counts,
    settled,
)
from tests.support.processes import Barrier, ServerProcess


@pytest.mark.weakness(10)
def test_a_kill_during_a_confirmed_tool_does_not_run_it_twice_for_one_confirmation(server: ServerProcess) -> None:
    with Barrier(server.folder, "killed") as door:
        with server.client() as client:
            run = create(client, "guarded killed")
            body_of(post_continue(client, run, confirming(run), background="true"), 202)
            door.wait_for_arrival()
        server.kill()
        server.start()
        with server.client() as client:
            doubtful = settled(client, run)
            assert doubtful["status"] == "PAUSED"
            assert "may already have run" in doubtful["content"]
            assert post_continue(client, run, confirming(run)).status_code == 409
            assert calls_of(server, "killed") == ["guarded killed"]
            door.let_go()
            assert body_of(post_continue(client, doubtful, confirming(doubtful)))["status"] == "COMPLETED"
    assert calls_of(server, "killed") == ["guarded killed"] * 2, "once for each confirmation"


@pytest.mark.weakness(11)
def test_a_kill_during_a_background_run_does_not_leave_it_running_for_ever(server: ServerProcess) -> None:
    with Barrier(server.folder, "background") as door:
        with server.client() as client:
            run = begin(client, "write before, think background: delete after")
            door.wait_for_arrival()
        server.kill()
        server.start()
        with server.client() as client:
            door.wait_for_arrival()
            assert read(client, run)["status"] == "RUNNING"
            door.let_go()
            paused = settled(client, run)
            assert paused["status"] == "PAUSED"
            assert body_of(post_continue(client, paused, confirming(paused)))["status"] == "COMPLETED"
            numbers = [frame.id for frame in events_of(client, run)]
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
    assert calls_of(server, "before") == ["write before"]


@pytest.mark.weakness(17)
def test_a_cancel_is_kept_over_a_restart_and_one_of_an_unknown_run_is_refused(server: ServerProcess) -> None:
    with server.client() as client:
        run = create(client, "delete cancelled")
        assert body_of(client.post(f"{path_of(run)}/cancel")) == {}
        assert read(client, run)["status"] == "CANCELLED"
        before = row_counts(server)
        unknown: httpx.Response = client.post(f"{path_of({'run_id': 'nope'})}/cancel")
        assert (unknown.status_code, unknown.json()) == (404, {"detail": "Run not found"})
        assert row_counts(server) == before
    server.stop()
    server.start()
    with server.client() as client:
        assert read(client, run)["status"] == "CANCELLED"
        late = post_continue(client, run, confirming(run))
        assert (late.status_code, late.json()["detail"]) == (409, "run is already cancelled")
    assert calls_of(server, "cancelled") == []
