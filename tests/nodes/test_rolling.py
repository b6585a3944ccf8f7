"""API nodes are killed and all nodes are restarted, one after the other, while clients follow many runs."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import httpx
import pytest

from tests.nodes.following import Following, stored_numbers
from tests.nodes.load import begin, check_runs, script_of, wait_until_settled
from tests.processes.conversation import Json, read_settled_run
from tests.support.cluster import Cluster, wait_until
from tests.support.full import IS_FULL
from tests.support.processes import TRUSTS_NOBODY, Barrier, ServerProcess

CLIENTS = 50 if IS_FULL else 4
ROUNDS = 6 if IS_FULL else 1
CALLS = 30 if IS_FULL else 4
BETWEEN_RUNS_SECONDS = 0.3


class Load:
    """A client that creates one run after the other, at whichever node answers, and has others follow them."""

    def __init__(self, addresses: Callable[[], list[str]], calls: int) -> None:
        self.runs: list[Json] = []
        self.streams: list[Following] = []
        self._addresses = addresses
        self._calls = calls
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._create, daemon=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Create runs for the length of the block."""
        self._thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            self._thread.join()

    def _create(self) -> None:
        numbers = count()
        number = next(numbers)
        while not self._is_over.wait(BETWEEN_RUNS_SECONDS):
            addresses = self._addresses()
            if not addresses:
                continue
            try:
                with httpx.Client(
                    base_url=addresses[number % len(addresses)], trust_env=False, verify=TRUSTS_NOBODY
                ) as client:
                    run = begin(client, script_of(number, self._calls))
            except (httpx.HTTPError, AssertionError):
                # Not accepted, as far as the client knows: a new run under a new name.
                number = next(numbers)
                continue
            self.runs.append(run)
            self.streams.append(Following(self._addresses, run, first=number))
            number = next(numbers)


@pytest.mark.timeout(300)
def test_clients_of_killed_api_nodes_see_each_event_once(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster(TEST_WORK_SECONDS="1")
    cluster.start(apis=2, workers=2)
    live = list(cluster.apis)

    def addresses() -> list[str]:
        return [api.address for api in live]

    with cluster.apis[0].client() as client:
        runs = [begin(client, script_of(number, CALLS)) for number in range(CLIENTS)]
    streams = [Following(addresses, run, first=number) for number, run in enumerate(runs)]
    for stream in streams:
        assert stream.has_begun.wait(60)
    for number in range(ROUNDS):
        victim = cluster.apis[number % 2]
        live.remove(victim)
        victim.kill()
        victim.start()
        live.append(victim)
    for stream in streams:
        stream.wait(120)
    wait_until_settled(cluster, 60)
    with cluster.apis[0].client() as client:
        for stream, run in zip(streams, runs, strict=True):
            assert stream.numbers == stored_numbers(client, run)
    assert sum(stream.broken for stream in streams) >= CLIENTS // 2, "about half of them lost the first node"
    assert check_runs(cluster) == {"COMPLETED": CLIENTS}
    assert cluster.rows("SELECT max(crashes), max(fence) FROM runs") == [(0, 1)]


@pytest.mark.timeout(600)
@pytest.mark.full
def test_a_rolling_restart_under_load_loses_no_run_and_no_event(new_cluster: Callable[..., Cluster]) -> None:
    # Longer than any call, and much shorter than a run: in the second half of it runs are given away between calls.
    cluster = new_cluster("--shutdown-grace-seconds", "2", TEST_WORK_SECONDS="0.4")
    cluster.start(apis=2, workers=2)
    live = list(cluster.apis)
    load = Load(lambda: [api.address for api in live], calls=16)
    with load.running():
        wait_until(lambda: len(load.streams) > 4, "runs are under way")
        for node in (*cluster.apis, *cluster.workers):
            _restart(node, live)
    assert len(load.runs) > 10
    for stream in load.streams:
        stream.wait(120)
    wait_until_settled(cluster, 60)
    with cluster.apis[0].client() as client:
        for stream, run in zip(load.streams, load.runs, strict=True):
            assert stream.numbers == stored_numbers(client, run)
    statuses = check_runs(cluster)
    assert statuses.keys() == {"COMPLETED"}
    assert statuses.total() >= len(load.runs)
    assert cluster.rows("SELECT max(crashes) FROM runs") == [(0,)], "no run was taken for left"
    assert cluster.rows("SELECT count(*) FROM runs WHERE fence > 1") > [(0,)], "no run changed its worker"
    told = [stream for stream in load.streams if stream.broken]
    assert told, "no stream was open at a stop: nothing was tested"
    assert any("1000" in stream.retries for stream in told), "the end of a stream says when to connect again"


def test_a_worker_that_stops_gives_back_what_does_not_end_in_time(new_cluster: Callable[..., Cluster]) -> None:
    cluster = new_cluster("--shutdown-grace-seconds", "1")
    cluster.start(apis=1, workers=2)
    with Barrier(cluster.folder, "stuck") as door, cluster.apis[0].client() as client:
        run = begin(client, "regated stuck")
        door.wait_for_arrival()
        stopping = cluster.worker_of(cluster.noted("stuck")[0].pid)
        # Its call hangs in a thread that nobody can end, and does not keep the process.
        code = stopping.stop(signal.SIGTERM)
        assert code in {0, -signal.SIGTERM}, (code, stopping.output[-2000:])
        door.wait_for_arrival()
        door.let_go()
        assert read_settled_run(client, run)["status"] == "COMPLETED"
    assert cluster.rows("SELECT crashes, fence FROM runs") == [(0, 2)]


def _restart(node: ServerProcess, live: list[ServerProcess]) -> None:
    """Stop one node as a deployment does, and start it again."""
    is_api = node in live
    if is_api:
        live.remove(node)
    code = node.stop(signal.SIGTERM)
    assert code in {0, -signal.SIGTERM}, (code, node.output[-2000:])
    node.start()
    if is_api:
        live.append(node)
