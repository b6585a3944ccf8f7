"""The PostgreSQL server of the tests with many nodes, and a cluster on a new database of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.cluster import Cluster, OwnPostgres, own_postgres


@pytest.fixture(scope="session")
def own_server() -> Iterator[OwnPostgres]:
    """One server for these tests alone: they stop it."""
    with own_postgres() as server:
        yield server


@pytest.fixture
def new_cluster(own_server: OwnPostgres, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Return what makes a cluster on a new database, with options for every node; nothing is started yet."""
    with ExitStack() as stack:

        def make(*options: str, **environment: str) -> Cluster:
            url = stack.enter_context(own_server.database())
            return stack.enter_context(Cluster(tmp_path, url, *options, **environment))

        yield make
