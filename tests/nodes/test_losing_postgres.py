"""PostgreSQL freezes, has no room or no connections, or is behind a pooler: all goes on by itself, nothing twice."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import psycopg
import pytest

from tests.nodes.deciding import Deciding, check_decided, wait_until_on
from tests.processes.conversation import RUNS, Json
from tests.support.cluster import Cluster, wait_until
from tests.support.pooler import pooler
from tests.support.processes import ServerProcess
from tests.support.standby import Instance, postgres_instance, small_disk
from unpause.store.engine import migrate

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

FROZEN_SECONDS = 30.0
ON_SECONDS = 40.0
# How long requests wait for a server that says nothing.
IMPATIENT = ("--database-timeout-seconds", "4", "--lock-timeout-seconds", "2")
_NOTHING_ARRIVES = "notifications do not arrive"


class Reading:
    """A client that reads runs all the time, and learns each time in the end that there is one or to come back."""

    def __init__(self, node: ServerProcess, runs: list[Json]) -> None:
        self._node, self._runs = node, runs
        self._is_over = threading.Event()
        self._threads = ThreadPoolExecutor(1)
        self._reading = self._threads.submit(self._read)

    def finish(self) -> float:
        """Stop, and return how long the longest request took."""
        self._is_over.set()
        return self._reading.result()

    def _read(self) -> float:
        longest = 0.0
        with self._node.client() as client:
            while not self._is_over.wait(0.05):
                begun = time.monotonic()
                response = client.get(f"/agents/scripted/runs/{self._runs[0]['run_id']}")
                longest = max(longest, time.monotonic() - begun)
                if response.status_code != 200:
                    assert_refused_as_unavailable(response, "does not answer")
        return longest


def create(client: httpx.Client, text: str = "say hello") -> httpx.Response:
    return client.post(RUNS, data={"message": text, "background": "true", "stream": "false"})


def assert_refused_as_unavailable(response: httpx.Response, *words: str) -> None:
    assert response.status_code == 503, response.text
    assert int(response.headers["Retry-After"]) >= 1
    assert response.json().keys() == {"detail"}
    assert any(word in response.json()["detail"] for word in words), response.text


def test_a_server_that_freezes_costs_nothing_but_the_time(tmp_path: Path) -> None:
    with postgres_instance() as postgres:
        migrate.upgrade(postgres.url())
        with Cluster(tmp_path, postgres.url(), *IMPATIENT, TEST_WORK_SECONDS="2") as cluster:
            cluster.start(apis=0, workers=0, nodes=2)
            deciding = Deciding(cluster, 20)
            reading = [Reading(node, deciding.runs) for node in cluster.apis for _ in range(4)]
            deciding.begin()
            deciding.wait_for(8)
            postgres.send(signal.SIGSTOP)
            begun = time.monotonic()
            with cluster.apis[0].client() as client:
                assert_refused_as_unavailable(create(client), "does not answer")
                refused = time.monotonic() - begun
                assert client.get("/health").status_code == 200
                assert client.get("/ready").status_code == 503
            time.sleep(max(0.0, FROZEN_SECONDS - (time.monotonic() - begun)))
            postgres.send(signal.SIGCONT)
            seconds = wait_until_on(cluster, ON_SECONDS)
            deciding.finish()
            wait_until_on(cluster, ON_SECONDS)
            in_doubt = check_decided(cluster, deciding)
            longest = [max(deciding.seconds), *(one.finish() for one in reading)]
            print(  # noqa: T201
                f"refused after {refused:.1f} s, on after {seconds:.1f} s, {in_doubt} in doubt, {deciding.statuses},"
                f" longest requests {[round(one, 1) for one in longest]}"
            )
            # Also those that were in the middle of a statement.
            assert max(longest) < FROZEN_SECONDS - 5
            assert "Traceback" not in cluster.output()


def fill(client: httpx.Client, words: str = " a" * 90_000) -> httpx.Response:
    """Create runs with long prompts until one is refused; return that response."""
    for _ in range(400):
        response = create(client, f"say hello{words}")
        if response.status_code != 202:
            return response
    message = "the disk was never full"
    raise AssertionError(message)


def check_full(node: ServerProcess, client: httpx.Client, make_room: Callable[[], None]) -> None:
    """Fill the database's disk; then assert what clients and the log are told, until there is room again."""
    readable = create(client).json()["run_id"]
    assert_refused_as_unavailable(fill(client), "disk is full")
    for _ in range(3):
        assert_refused_as_unavailable(fill(client), "disk is full")
    assert client.get(f"/agents/scripted/runs/{readable}").status_code == 200
    ready = client.get("/ready")
    assert (ready.status_code, ready.json()["missing"][0]["part"]) == (503, "database")
    make_room()
    wait_until(lambda: client.get("/ready").status_code == 200, "there is room again")
    assert create(client).status_code == 202
    assert (node.output.count("database unavailable"), node.output.count("database available again")) == (1, 1)
    assert "Traceback" not in node.output


def test_a_sqlite_file_on_a_full_disk_is_refused_clearly_and_goes_on(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", "12m") as disk:
        environment = {"UNPAUSE_DATABASE_URL": f"sqlite:///{disk}/unpause.db"}
        with Cluster(tmp_path, "sqlite://") as cluster, ServerProcess(tmp_path, environment=environment) as node:
            ballast = disk / "ballast"
            ballast.write_bytes(bytes(6_000_000))
            with node.client() as client:
                check_full(node, client, ballast.unlink)
            assert cluster.apis == []


def test_a_postgresql_without_room_for_data_is_refused_clearly_and_goes_on(tmp_path: Path) -> None:
    with postgres_instance() as postgres, small_disk(postgres.data.parent / "small", "48m") as disk:
        postgres.own(disk)
        location = disk / "space"
        postgres.make_folder(location)
        postgres.execute(f"CREATE TABLESPACE small LOCATION '{location}'")
        postgres.execute("CREATE DATABASE small TABLESPACE small")
        migrate.upgrade(postgres.url("small"))
        with Cluster(tmp_path, postgres.url("small")) as cluster:
            cluster.start(apis=0, workers=0, nodes=1)
            ballast = disk / "ballast"
            with ballast.open("wb") as file:
                file.write(bytes(shutil.disk_usage(disk).free - 3_000_000))
            with cluster.apis[0].client() as client:
                check_full(cluster.apis[0], client, ballast.unlink)
            assert cluster.find_gaps() == []


def test_nodes_whose_connections_do_not_all_fit_share_those_that_there_are(tmp_path: Path) -> None:
    with postgres_instance(max_connections="45") as postgres, ExitStack() as others:
        # Not as a superuser, for whom some connections are reserved.
        postgres.execute("CREATE ROLE unpause LOGIN")
        postgres.execute("CREATE DATABASE unpause OWNER unpause")
        url = postgres.url("unpause").replace("postgres@", "unpause@")
        migrate.upgrade(url)
        with Cluster(tmp_path, url, "--database-connections", "10", TEST_WORK_SECONDS="0.2") as cluster:
            cluster.database_url = postgres.url("unpause")
            # One that finds no connection free does not start.
            cluster.start(apis=0, workers=0, nodes=3)
            # 17 are left, beside those for superusers.
            take_connections(postgres, others, 25)
            deciding = Deciding(cluster, 30)
            deciding.begin()
            deciding.finish()
            wait_until_on(cluster, ON_SECONDS)
            assert check_decided(cluster, deciding) == 0
            print(dict(deciding.statuses), cluster.output().count("takes no more connections"))  # noqa: T201
            assert "Traceback" not in cluster.output()
        assert "remaining connection slots" in (postgres.data / "log").read_text()


def take_connections(postgres: Instance, others: ExitStack, count: int) -> None:
    """Take connections as another program does, or all that are left."""
    for _ in range(count):
        try:
            connection = psycopg.connect(f"host=127.0.0.1 port={postgres.port} user=unpause dbname=unpause")
        except psycopg.OperationalError:
            return
        others.enter_context(closing(connection))


@pytest.mark.parametrize("listens", [True, False])
def test_a_pooler_in_transaction_mode_works_and_the_log_says_what_it_lacks(tmp_path: Path, *, listens: bool) -> None:
    with postgres_instance() as postgres, pooler(postgres) as url:
        migrate.upgrade(url)
        options = ("--listener-url", postgres.url()) if listens else ()
        with Cluster(tmp_path, url, *options, TEST_WORK_SECONDS="0.1") as cluster:
            cluster.start(apis=2, workers=2)
            deciding = Deciding(cluster, 20)
            deciding.begin()
            deciding.finish()
            wait_until_on(cluster, ON_SECONDS)
            assert check_decided(cluster, deciding) == 0
            cluster.database_url = postgres.url()
            waits = cluster.rows(
                "SELECT max(extract(epoch FROM c.started_at - q.decided_at)) FROM tool_calls c"
                " JOIN requirements q ON q.run_key = c.run_key AND q.call_id = c.tool_call_id"
            )
            print(f"longest from a decision to its call: {waits}")  # noqa: T201
            if listens:
                wait_until(lambda: have_listened(cluster, 4, 12), "listeners know whether notifications arrive")
                assert _NOTHING_ARRIVES not in cluster.output()
            else:
                wait_until(lambda: _NOTHING_ARRIVES in cluster.output(), "one says that none arrive")
            assert "Traceback" not in cluster.output()


def have_listened(cluster: Cluster, listeners: int, seconds: int) -> bool:
    """Whether so many have asked their server if it is there, so long after they connected: after 10 they know."""
    asked = cluster.rows("SELECT query_start - backend_start FROM pg_stat_activity WHERE application_name ~ 'listener'")
    return [after.total_seconds() > seconds for (after,) in asked] == [True] * listeners
