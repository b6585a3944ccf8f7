"""What holds for all tests: how the property tests run, and the databases of those that need one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.databases import PostgresServer, postgres_server, sqlite_url
from unpause.store.engine import migrate

# No deadline, because a busy machine is no fault; no database of examples in the working tree.
settings.register_profile("unpause", deadline=None, database=None)
settings.load_profile("unpause")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for the session; with xdist each worker that needs one has its own."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a SQLite file with the schema, to be copied."""
    file = tmp_path_factory.mktemp("template") / "migrated.db"
    migrate.upgrade(sqlite_url(file))
    return file


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield the address of a database with the schema and no runs: who asks for it runs on both kinds."""
    if request.param == "sqlite":
        file = tmp_path / "unpause.db"
        shutil.copyfile(request.getfixturevalue("sqlite_template"), file)
        yield sqlite_url(file)
        return
    yield request.getfixturevalue("postgres_url")


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """Yield the address of a PostgreSQL database with the schema and no runs."""
    with postgres.migrated_database() as url:
        yield url
