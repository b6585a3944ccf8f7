"""A cluster of nodes on a new database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.databases import PostgresServer


@pytest.fixture
def new_cluster(postgres: PostgresServer, tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Return what makes a cluster on a new database, with options for every node; nothing is started yet."""
    with ExitStack() as stack:

        def make(*options: str, **environment: str) -> Cluster:
            url = stack.enter_context(postgres.migrated_database())
            return stack.enter_context(Cluster(tmp_path, url, *options, **environment))

        yield make
