"""PostgreSQL vanishes without a word, or has no room for its log: nodes notice, and go on by themselves."""

from __future__ import annotations

import secrets
import shutil
import time
from pathlib import Path

import pytest

from tests.nodes.deciding import Deciding, check_decided, wait_until_on
from tests.nodes.test_losing_postgres import IMPATIENT, ON_SECONDS, assert_refused_as_unavailable, create, fill
from tests.support.cluster import Cluster, wait_until
from tests.support.passage import Passage
from tests.support.standby import Instance, postgres_instance, small_disk
from unpause.store.engine import migrate

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

_AWAY_SECONDS = 15.0


def test_a_network_that_swallows_everything_costs_nothing_but_the_time(tmp_path: Path) -> None:
    with postgres_instance() as postgres, Passage(postgres.port).running() as passage:
        migrate.upgrade(postgres.url())
        url = postgres.url().replace(str(postgres.port), str(passage.port))
        with Cluster(tmp_path, url, *IMPATIENT, TEST_WORK_SECONDS="1") as cluster:
            cluster.start(apis=0, workers=0, nodes=2)
            cluster.database_url = postgres.url()
            deciding = Deciding(cluster, 20)
            deciding.begin()
            deciding.wait_for(8)
            passage.swallow()
            begun = time.monotonic()
            with cluster.apis[0].client() as client:
                assert_refused_as_unavailable(create(client), "does not answer")
                assert (client.get("/health").status_code, client.get("/ready").status_code) == (200, 503)
            time.sleep(max(0.0, _AWAY_SECONDS - (time.monotonic() - begun)))
            # Connections from before stay open, and nobody answers on them.
            passage.let_new_ones_pass()
            begun = time.monotonic()
            for node in cluster.apis:
                with node.client() as client:
                    wait_until(lambda one=client: one.get("/ready").status_code == 200, "the node is ready again")  # type: ignore[misc]
            seconds = time.monotonic() - begun
            deciding.finish()
            wait_until_on(cluster, ON_SECONDS)
            in_doubt = check_decided(cluster, deciding)
            print(f"ready again after {seconds:.1f} s, {in_doubt} in doubt, longest {max(deciding.seconds):.1f} s")  # noqa: T201
            assert "Traceback" not in cluster.output()


def test_a_postgresql_without_room_for_its_log_is_like_one_that_restarts(tmp_path: Path) -> None:
    with postgres_instance() as postgres, small_disk(postgres.data.parent / "small", "64m") as disk:
        migrate.upgrade(postgres.url())
        with Cluster(tmp_path, postgres.url(), *IMPATIENT) as cluster:
            cluster.start(apis=0, workers=0, nodes=1)
            _move_log(postgres, disk)
            ballast = disk / "ballast"
            with cluster.apis[0].client() as client:
                wait_until(lambda: client.get("/ready").status_code == 200, "the node is ready again")
                readable = create(client).json()["run_id"]
                ballast.write_bytes(bytes(shutil.disk_usage(disk).free))
                # PostgreSQL would compress a repeated word, and its log would grow too slowly.
                refused = fill(client, f" {secrets.token_hex(90_000)}")
                assert_refused_as_unavailable(refused, "does not answer", "disk is full")
                wait_until(lambda: client.get("/ready").status_code == 503, "the node knows")
                assert client.get("/health").status_code == 200
                wait_until(lambda: not postgres.is_running, "PostgreSQL gives up")
                ballast.unlink()
                postgres.start()
                wait_until(lambda: client.get("/ready").status_code == 200, "the node is ready again")
                assert client.get(f"/agents/scripted/runs/{readable}").status_code == 200
                assert create(client).status_code == 202
            # Some hundred runs, which filled it.
            wait_until_on(cluster, 3 * ON_SECONDS)
            assert cluster.find_gaps() == []
            assert "Traceback" not in cluster.output()


def _move_log(postgres: Instance, disk: Path) -> None:
    """Have the server write its log to that disk."""
    postgres.stop()
    log, place = postgres.data / "pg_wal", disk / "log"
    shutil.copytree(log, place)
    shutil.rmtree(log)
    log.symlink_to(place)
    for path in (disk, place, *place.rglob("*")):
        shutil.copystat(postgres.data, path) if path.is_dir() else None
        if postgres.owner is not None:
            shutil.chown(path, postgres.owner)
    postgres.start()
