"""A worker that freezes in the middle of a tool loses its run; when it wakes up it writes nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack

import httpx
import pytest

from tests.nodes.load import begin
from tests.processes.conversation import Json, begin_to_continue, confirming, create_run, read_run, read_settled_run
from tests.processes.test_agent_processes import processes_of
from tests.support.cluster import Cluster, wait_until
from tests.support.processes import Barrier, ServerProcess

LEASE = ("--lease-seconds", "2", "--sweep-seconds", "0.5")
# How long such a node lets a transaction be idle: two leases.
IDLE_SECONDS = 4.0


@pytest.mark.parametrize("tool", [pytest.param("gated", marks=pytest.mark.full), "regated"])
def test_a_frozen_worker_writes_nothing_when_it_wakes_up(new_cluster: Callable[..., Cluster], tool: str) -> None:
    cluster = new_cluster(*LEASE)
    cluster.start(apis=1, workers=2)
    with Barrier(cluster.folder, "frozen") as door, cluster.apis[0].client() as client:
        run = create_run(client, f"confirmed first, {tool} frozen, confirmed last")
        begin_to_continue(client, run, confirming(run))
        door.wait_for_arrival()
        frozen = cluster.worker_of(cluster.noted("frozen")[0].pid)
        _signal_all(frozen, signal.SIGSTOP)
        if tool == "regated":
            # The other worker runs it again, and nobody has to say yes to that.
            door.wait_for_arrival()
            door.let_go()
        paused = wait_until(lambda: _paused(client, run), "the run is paused by the other worker")
        held = cluster.rows("SELECT id, status, fence, last_sequence, updated_at FROM runs")
        journal = cluster.rows("SELECT * FROM tool_calls ORDER BY position, turn")
        _signal_all(frozen, signal.SIGCONT)
        door.let_go()
        wait_until(lambda: _ended(cluster, frozen.pid), "the frozen worker ends its call")
        wait_until(lambda: "segment abandoned" in frozen.output or "lease lost" in frozen.output, "it notices")
        assert cluster.rows("SELECT id, status, fence, last_sequence, updated_at FROM runs") == held
        assert cluster.rows("SELECT * FROM tool_calls ORDER BY position, turn") == journal
        assert ("may already have run" in paused["content"]) is (tool == "gated")
        # The one that was frozen is of use again.
        done = paused
        while done["status"] == "PAUSED":
            if "may already have run" in done["content"]:
                door.let_go()
            begin_to_continue(client, run, confirming(done))
            done = read_settled_run(client, run)
    assert done["status"] == "COMPLETED"
    assert cluster.statuses() == {"COMPLETED": 1}
    assert cluster.find_gaps() == []
    assert [line.what for line in cluster.noted("last")] == ["began", "ended"]
    assert [line.what for line in cluster.noted("frozen")].count("began") == 2


@pytest.mark.full
def test_what_a_worker_that_froze_had_locked_holds_up_nobody_for_long(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster(*LEASE)
    cluster.start(apis=1, workers=1)
    with (
        Barrier(cluster.folder, "locked") as locked,
        Barrier(cluster.folder, "beside") as beside,
        cluster.apis[0].client() as client,
    ):
        runs = [begin(client, f"regated {name}") for name in ("locked", "beside")]
        for door in (locked, beside):
            door.wait_for_arrival()
        frozen = cluster.workers[0]
        # As if it had frozen between the first statement of a transaction and the commit.
        with cluster.locking_run(runs[0]["run_id"], IDLE_SECONDS):
            _signal_all(frozen, signal.SIGSTOP)
            cluster.start(apis=0, workers=1)
            beside.wait_for_arrival()
            locked.wait_for_arrival()
            for door in (beside, locked):
                door.let_go()
            for run in runs:
                assert read_settled_run(client, run)["status"] == "COMPLETED"
    assert cluster.find_gaps() == []


@pytest.mark.full
def test_a_row_that_is_locked_for_long_costs_the_other_runs_no_lease(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster(*LEASE)
    cluster.start(apis=1, workers=2)
    names = ("locked", "first", "second", "third")
    with ExitStack() as stack:
        doors = [stack.enter_context(Barrier(cluster.folder, name)) for name in names]
        client = stack.enter_context(cluster.apis[0].client())
        runs = [begin(client, f"gated {name}") for name in names]
        for door in doors:
            door.wait_for_arrival()
        with cluster.locking_run(runs[0]["run_id"], IDLE_SECONDS) as locking:
            wait_until(lambda: locking.has_ended, "the server ends the transaction that was left open")
        for door in doors:
            door.let_go()
        for run in runs[1:]:
            assert read_settled_run(client, run)["status"] == "COMPLETED"
    found = "SELECT max(fence), max(crashes) FROM runs WHERE run_id <> %s"
    assert cluster.rows(found, runs[0]["run_id"]) == [(1, 0)]


def _signal_all(worker: ServerProcess, number: signal.Signals) -> None:
    """Send it to the worker, and to its agent processes where it has some: a machine freezes as a whole."""
    for pid in (worker.pid, *processes_of(worker)):
        os.kill(pid, number)


def _paused(client: httpx.Client, run: Json) -> Json | None:
    found = read_run(client, run)
    return found if found["status"] == "PAUSED" else None


def _ended(cluster: Cluster, pid: int) -> bool:
    return any(line.what == "ended" and line.pid == pid for line in cluster.noted("frozen"))
