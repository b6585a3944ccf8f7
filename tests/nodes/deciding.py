"""Clients that continue many paused runs while a database is lost, as patient clients do; and what must hold then."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import httpx

from tests.processes.conversation import Json, confirming, continue_path, create_run
from tests.support.cluster import Cluster, wait_until
from tests.support.processes import ServerProcess

_CLIENTS: Final = 8
_PATIENCE: Final = 60.0


def script_of(number: int) -> str:
    """Return a run that waits for a person, and then calls two tools that may not run twice."""
    return f"confirmed {number}-0, work {number}-1"


class Deciding:
    """Paused runs, and clients that continue each of them until they are told that it goes on.

    A client sends the same Idempotency-Key again, to the other node, when it gets no answer or a 5xx.
    """

    def __init__(self, cluster: Cluster, runs: int) -> None:
        self._cluster = cluster
        self._lock = threading.Lock()
        self.accepted: dict[str, float] = {}
        """When each decision was accepted, by the run's id."""
        self.statuses: Counter[int] = Counter()
        """How many answers had which status; 0 where a connection failed."""
        self.seconds: list[float] = []
        """How long each request took."""
        with ThreadPoolExecutor(_CLIENTS) as threads:
            self.runs = list(threads.map(self._create, range(runs)))
        self._threads = ThreadPoolExecutor(_CLIENTS)
        self._continues: list[object] = []

    def begin(self) -> None:
        """Have the clients begin."""
        self._continues = [self._threads.submit(self._continue, number) for number in range(len(self.runs))]

    def wait_for(self, count: int) -> None:
        """Wait until so many decisions were accepted."""
        wait_until(lambda: len(self.accepted) >= count, f"{count} decisions are accepted")

    def finish(self) -> None:
        """Wait until every client was told that its run goes on."""
        self._threads.shutdown()
        assert len(self.accepted) == len(self.runs), (len(self.accepted), self.statuses)

    def _create(self, number: int) -> Json:
        with self._node(number).client() as client:
            return create_run(client, script_of(number))

    def _node(self, number: int) -> ServerProcess:
        return self._cluster.apis[number % len(self._cluster.apis)]

    def _continue(self, number: int) -> None:
        run, tries, end = self.runs[number], 0, time.monotonic() + _PATIENCE
        form = {"tools": confirming(run), "background": "true", "stream": "false"}
        headers = {"Idempotency-Key": f"decision {number}"}
        while time.monotonic() < end:
            status, begun = 0, time.monotonic()
            try:
                with self._node(number + tries).client() as client:
                    status = client.post(continue_path(run), data=form, headers=headers).status_code
            except httpx.TransportError:
                pass
            with self._lock:
                self.statuses[status] += 1
                self.seconds.append(time.monotonic() - begun)
                if status in {200, 202}:
                    self.accepted[run["run_id"]] = time.monotonic()
            if status in {200, 202}:
                return
            assert status in {0, 503}, status
            tries += 1
            time.sleep(0.2)


def wait_until_on(cluster: Cluster, seconds: float) -> float:
    """Wait until nobody executes anything and nothing waits to be; return how long that took."""
    begun = time.monotonic()
    wait_until(lambda: not cluster.statuses().keys() & {"PENDING", "RUNNING"}, "all runs are settled", seconds)
    return time.monotonic() - begun


def check_decided(cluster: Cluster, deciding: Deciding) -> int:
    """Assert that no accepted decision is lost, no call ran twice and no log has a gap; return the calls in doubt."""
    assert cluster.find_gaps() == []
    doubts = {run for (run,) in cluster.rows("SELECT run_id FROM runs WHERE status = 'PAUSED'")}
    in_doubt = "SELECT run_id FROM runs JOIN requirements ON run_key = runs.id WHERE in_doubt AND decision IS NULL"
    assert doubts == {run for (run,) in cluster.rows(in_doubt)}, "a run is paused that nobody has to decide"
    decided = "SELECT run_id FROM runs JOIN requirements ON run_key = runs.id WHERE decision = 'confirmed'"
    assert {run for (run,) in cluster.rows(decided)} == deciding.accepted.keys(), "an accepted decision is lost"
    trail = cluster.rows("SELECT run_id FROM audit WHERE action = 'requirement.answered'")
    assert Counter(run for (run,) in trail) == Counter(deciding.accepted.keys()), "the trail is not what was decided"
    began = Counter(line.name for line in cluster.noted() if line.what == "began")
    assert set(began.values()) == {1}, [name for name, times in began.items() if times > 1]
    statuses = cluster.statuses()
    assert statuses.get("COMPLETED", 0) + len(doubts) == len(deciding.runs), statuses
    return len(doubts)
