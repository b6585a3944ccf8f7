"""PostgreSQL goes away for a while: requests are told to come back, nothing is lost, and all goes on by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.nodes.following import Following, stored_numbers
from tests.nodes.load import begin, begin_many, check_runs, script_of, wait_until_settled
from tests.processes.conversation import CODEGEN, RUNS, Json, agno_name, create_codegen_run, read_run, read_settled_run
from tests.support.cluster import Cluster, wait_until
from tests.support.databases import PostgresServer, postgres_server
from tests.support.processes import DEADLINE, Barrier

AWAY_SECONDS = 10.0
LOAD, CALLS, WORK_SECONDS = 12, 5, 1.5


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """A server for these tests alone, which stop it; it writes to disk as PostgreSQL does by itself."""
    with postgres_server(is_safe=True) as server:
        yield server


@contextmanager
def away(server: PostgresServer, mode: str) -> Iterator[None]:
    """Have the database away for the length of the block, and no shorter than it is to be."""
    server.stop(mode)
    begun = time.monotonic()
    try:
        yield
        time.sleep(max(0.0, begun + AWAY_SECONDS - time.monotonic()))
    finally:
        server.start()


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_database_that_was_away_costs_nothing_but_time(
    new_cluster: Callable[..., Cluster], postgres: PostgresServer, mode: str
) -> None:
    # Nobody polls within the test: whatever starts in it was told by a listener that is connected again.
    cluster = new_cluster("--poll-seconds", "600", TEST_WORK_SECONDS=str(WORK_SECONDS))
    cluster.start(apis=2, workers=2)
    with (
        Barrier(cluster.folder, "0-0") as door,
        cluster.apis[0].client() as client,
        cluster.apis[1].client() as other,
    ):
        run = begin(client, "gated 0-0")
        door.wait_for_arrival()
        codegen = create_codegen_run(other, "rework 1-0")
        load = begin_many(cluster, [script_of(number, CALLS) for number in range(2, LOAD)])
        streams = [
            Following(lambda one=api: [one.address], one_run)  # type: ignore[misc]
            for api in cluster.apis
            for one_run in (run, load[0])
        ]
        for stream in streams:
            assert stream.has_begun.wait(DEADLINE)
        with away(postgres, mode):
            for node in (client, other):
                _assert_unavailable(node, run["run_id"])
            door.let_go()
            wait_until(lambda: len(cluster.noted("0-0")) == 2, "the tool ends while the database is away")
        done = read_settled_run_patiently(client, run)
        assert (done["status"], done["content"].strip()) == ("COMPLETED", "Told: did gated 0-0")
        wait_until_settled(cluster, 120)
        assert read_run(other, agno_name(codegen))["status"] == "COMPLETED"
        _assert_told_at_once(cluster, client)
        for number, stream in enumerate(streams):
            stream.wait()
            assert stream.numbers == stored_numbers(other, (run, load[0])[number % 2])
    assert check_runs(cluster) == {"COMPLETED": LOAD + 3}
    assert cluster.rows("SELECT max(crashes), max(fence) FROM runs") == [(0, 1)]


def _assert_unavailable(node: httpx.Client, run_id: str) -> None:
    """Assert that every kind of request is told to come back, in its API's own shape, and that the node knows."""
    answers = [
        node.post(RUNS, data={"message": "say no", "stream": "false"}),
        node.get(f"/agents/scripted/runs/{run_id}"),
        node.post(f"/agents/scripted/runs/{run_id}/continue", data={"tools": "[]", "stream": "false"}),
        node.post(CODEGEN, json={"prompt": "say no"}),
        node.get("/ready"),
    ]
    assert [answer.status_code for answer in answers] == [503] * len(answers)
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers)
    assert answers[0].json().keys() == {"detail"}
    assert answers[3].json().keys() == {"message", "status_code"}
    assert node.get("/health").status_code == 200


def _assert_told_at_once(cluster: Cluster, client: httpx.Client) -> None:
    """Assert that runs start without anybody polling."""
    for number in range(3):
        begin(client, f"rework {100 + number}-0")
    wait_until(lambda: all(cluster.noted(f"{100 + number}-0") for number in range(3)), "runs are heard of", 30)
    wait_until_settled(cluster, DEADLINE)


def read_settled_run_patiently(client: httpx.Client, run: Json) -> Json:
    """Read the run until it is settled, whatever is answered meanwhile but the database's absence."""
    wait_until(lambda: client.get("/ready").status_code == 200, "the node is ready again")
    return read_settled_run(client, run)
