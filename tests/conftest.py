"""What holds for all tests: how the property tests run, and the PostgreSQL server of those that need one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.databases import PostgresServer, postgres_server

# No deadline, because a busy machine is no fault; no database of examples in the working tree.
settings.register_profile("unpause", deadline=None, database=None)
settings.load_profile("unpause")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for the session; with xdist each worker that needs one has its own."""
    with postgres_server() as server:
        yield server
