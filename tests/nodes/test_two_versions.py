"""The previous release and this one on one database: an upgrade node by node under load, and the way back."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.nodes.load import wait_until_settled
from tests.processes.conversation import (
    RUNS,
    Json,
    confirming,
    continue_path,
    create_codegen_run,
    create_run,
    read_codegen_run,
    read_run,
    read_settled_run,
    resume_run,
)
from tests.support.cluster import Cluster, start_all, wait_until
from tests.support.databases import PostgresServer
from tests.support.migrations import NEXT, NextMigration
from tests.support.previous_release import PreviousRelease, check_out_previous_release
from tests.support.processes import ServerProcess
from unpause.store.engine import migrate

CLIENTS: Final = 3
# Between two runs of a client: nodes have to start meanwhile.
PAUSE_SECONDS: Final = 0.3
# Of a change that takes the tables' locks, an index while others write, and rows that are filled.
EXPANDS: Final = (
    'online.create_index("ix_next", "runs", ["summary"])\n'
    '    online.add_column("runs", sa.Column("next", sa.Integer(), nullable=True))\n'
    '    online.fill("runs", "next = id", "next IS NULL", batch=10)'
)
BACK: Final = 'online.drop_index("ix_next", "runs")\n    op.drop_column("runs", "next")'


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> PreviousRelease:
    return check_out_previous_release(tmp_path_factory.mktemp("previous"))


@pytest.fixture
def cluster(
    postgres: PostgresServer, tmp_path: Path, previous: PreviousRelease, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """Return nodes that do not run yet, on a database with the previous schema; the next one is ready to be reached."""
    NextMigration(tmp_path, monkeypatch)(EXPANDS, back=BACK)
    with postgres.database() as url:
        migrate.upgrade(url, previous.schema)
        with Cluster(tmp_path, url, "--shutdown-grace-seconds", "2", TEST_WORK_SECONDS="0.1") as cluster:
            yield cluster


def schema_of(node: ServerProcess) -> str:
    """Assert that the node is ready; return the revision that it says the database is at, if not its own."""
    with node.client() as client:
        ready = client.get("/ready")
    assert ready.status_code == 200, ready.text
    return str(ready.json().get("schema", {}).get("revision", "its own"))


def stop(node: ServerProcess) -> None:
    code = node.stop(signal.SIGTERM)
    assert code in {0, -signal.SIGTERM}, (code, node.output[-2000:])


def confirm(node: ServerProcess, run: Json) -> str:
    """Continue the run at the node; return the status that it ends with."""
    with node.client() as client:
        form = {"tools": confirming(read_run(client, run)), "background": "true", "stream": "false"}
        response = client.post(continue_path(run), data=form)
        assert response.status_code in {200, 202}, response.text
        return str(read_settled_run(client, run)["status"])


def test_each_version_goes_on_with_what_the_other_paused(cluster: Cluster, previous: PreviousRelease) -> None:
    old, new = cluster.new_server(previous), cluster.new_server()
    cluster.apis += [old, new]
    old.start()
    key = {"Idempotency-Key": "same on both"}
    form = {"message": "say once", "background": "true", "stream": "false"}
    with old.client() as client:
        by_old = [create_run(client, f"confirmed old-{number}, work old-{number}-after") for number in range(2)]
        asked = client.post(RUNS, data=form, headers=key)
        codegen = create_codegen_run(client, "confirmed codegen, say done")
        read_codegen_run(client, codegen["id"])
    migrate.upgrade(cluster.database_url)
    assert schema_of(old) == NEXT
    new.start()
    assert schema_of(new) == NEXT
    with new.client() as client:
        by_new = create_run(client, "confirmed new, work new-after")
        again = client.post(RUNS, data=form, headers=key)
        assert (again.status_code, again.json()) == (asked.status_code, asked.json())
    assert confirm(old, by_new) == "COMPLETED"
    assert confirm(new, by_old[0]) == "COMPLETED"
    stop(old)
    # Nobody else is there to execute it.
    assert confirm(new, by_old[1]) == "COMPLETED"
    with new.client() as client:
        assert resume_run(client, codegen["id"], "no, leave it").status_code == 200
        assert read_codegen_run(client, codegen["id"])["status"] == "COMPLETE"
    assert cluster.find_gaps() == []
    began = Counter(line.name for line in cluster.noted() if line.what == "began")
    assert began == dict.fromkeys(("old-0", "old-0-after", "old-1", "old-1-after", "new", "new-after"), 1)


class Traffic:
    """Clients whose runs pause, and are continued at whichever node is next, until the block ends.

    Each request that gets no answer is sent again, with its Idempotency-Key, to another node.
    """

    def __init__(self, live: list[ServerProcess]) -> None:
        self.live = live
        self.finished: list[str] = []
        """The runs that have ended as they should."""
        self.runs: list[str] = []
        self.faults: list[str] = []
        """Answers that no client may get."""
        self._is_over = threading.Event()
        self._clients: dict[str, httpx.Client] = {}
        self._numbers = count()
        self._nodes = count()
        self._threads = [threading.Thread(target=self._work) for _ in range(CLIENTS)]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Make runs for the length of the block, and then wait for the end of each."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            for thread in self._threads:
                thread.join()
            for client in self._clients.values():
                client.close()

    def wait_for_more(self, runs: int = 2 * CLIENTS) -> None:
        """Wait until so many more runs have ended: the nodes that live now have worked."""
        reached = len(self.finished) + runs
        wait_until(lambda: len(self.finished) >= reached or self.faults, "runs end")
        assert not self.faults

    def _work(self) -> None:
        while not self._is_over.wait(PAUSE_SECONDS):
            try:
                self._converse(next(self._numbers))
            except AssertionError as error:
                self.faults.append(str(error))

    def _converse(self, number: int) -> None:
        form = {"message": f"work {number}-0, confirmed {number}-1, work {number}-2"}
        run = self._send("POST", RUNS, form, f"create {number}")
        self.runs.append(run["run_id"])
        run["agent_id"] = "scripted"
        waiting = self._settled(run)
        if is_in_doubt(waiting):
            return
        assert waiting["status"] == "PAUSED", waiting
        self._send("POST", continue_path(run), {"tools": confirming(waiting)}, f"continue {number}")
        ended = self._settled(run)
        assert ended["status"] == "COMPLETED" or is_in_doubt(ended), ended
        self.finished.append(run["run_id"])

    def _settled(self, run: Json) -> Json:
        for _ in range(600):
            found = self._send("GET", f"{RUNS}/{run['run_id']}")
            if found["status"] not in {"PENDING", "RUNNING"}:
                return found
            time.sleep(0.1)
        message = f"{run['run_id']} is not settled"
        raise AssertionError(message)

    def _send(self, method: str, path: str, form: Json | None = None, key: str = "") -> Json:
        for _ in range(100):
            node = self.live[next(self._nodes) % len(self.live)]
            options: Json = {}
            if form is not None:
                options = {
                    "data": {**form, "background": "true", "stream": "false"},
                    "headers": {"Idempotency-Key": key},
                }
            # To make one costs as much as dozens of requests.
            client = self._clients.get(node.address) or self._clients.setdefault(node.address, node.client())
            try:
                response = client.request(method, path, **options)
            except httpx.TransportError:
                # Killed, or stopped since it was chosen.
                time.sleep(0.1)
                continue
            assert response.status_code in {200, 202}, f"{method} {path}: {response.status_code} {response.text}"
            body: Json = response.json()
            return body
        message = f"no node answers {path}"
        raise AssertionError(message)


def is_in_doubt(run: Json) -> bool:
    """Whether it waits for a person to say what became of a call whose node was killed."""
    return run["status"] == "PAUSED" and any(
        "work" in item["tool_execution"]["tool_name"] for item in run.get("requirements") or ()
    )


@pytest.mark.full
@pytest.mark.timeout(600)
def test_an_upgrade_node_by_node_under_load_and_the_way_back_lose_nothing(
    cluster: Cluster, previous: PreviousRelease
) -> None:
    old = [cluster.new_server(previous) for _ in range(2)]
    new = [cluster.new_server() for _ in range(2)]
    cluster.apis += [*old, *new]
    start_all(old)
    live = list(old)
    traffic = Traffic(live)
    with traffic.running():
        traffic.wait_for_more()
        migrate.upgrade(cluster.database_url)
        assert [schema_of(node) for node in old] == [NEXT, NEXT]
        traffic.wait_for_more()
        leave(live, old[0], ServerProcess.kill)
        old[0].start()
        live.append(old[0])
        assert schema_of(old[0]) == NEXT
        traffic.wait_for_more()
        roll(traffic, old, new)
        # The way back: nodes first.
        roll(traffic, new, old)
        migrate.downgrade(cluster.database_url, previous.schema)
        assert [schema_of(node) for node in old] == ["its own", "its own"]
        traffic.wait_for_more()
    assert traffic.faults == []
    wait_until_settled(cluster, 60)
    check(cluster, traffic)


def roll(traffic: Traffic, before: list[ServerProcess], after: list[ServerProcess]) -> None:
    """Replace node by node: one comes, one goes."""
    for comes, goes in zip(after, before, strict=True):
        comes.start()
        traffic.live.append(comes)
        assert schema_of(comes) == NEXT
        traffic.wait_for_more()
        leave(traffic.live, goes, stop)
        traffic.wait_for_more()


def leave(live: list[ServerProcess], node: ServerProcess, end: Callable[[ServerProcess], None]) -> None:
    """Take the node out of the balancer, as a deployment does, and end it."""
    live.remove(node)
    end(node)


def check(cluster: Cluster, traffic: Traffic) -> None:
    """Assert that all runs are there and have ended, unless a call is in doubt, and none ran twice."""
    assert cluster.find_gaps() == []
    stored = dict(cluster.rows("SELECT run_id, status FROM runs"))
    assert stored.keys() == set(traffic.runs), "a run is lost, or was made twice"
    doubts = "SELECT run_id FROM runs JOIN requirements ON run_key = runs.id WHERE in_doubt AND decision IS NULL"
    in_doubt = {run_id for (run_id,) in cluster.rows(doubts)}
    assert {run_id for run_id, status in stored.items() if status != "COMPLETED"} == in_doubt
    # Those that ran when their node was killed, or was so slow that it lost its lease.
    assert len(in_doubt) < len(stored) / 2
    began = Counter(line.name for line in cluster.noted() if line.what == "began")
    assert set(began.values()) == {1}, [name for name, times in began.items() if times > 1]
    assert began.total() >= 3 * (len(stored) - len(in_doubt))
