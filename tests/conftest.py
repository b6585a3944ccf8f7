"""What holds for all tests: how the property tests run, which tests run, and the databases of those that need one."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.databases import (
    PostgresServer,
    migrated_sqlite_file,
    postgres_server,
    sqlite_url,
)
from tests.support.engines import quicken_engines
from tests.support.full import IS_FULL, skip_long_tests
from tests.support.logs import log_plainly

# No deadline, because a busy machine is no fault; no database of examples in the working tree.
settings.register_profile("unpause", deadline=None, database=None, max_examples=100 if IS_FULL else 40)
settings.load_profile("unpause")

quicken_engines()

log_plainly()


def pytest_collection_finish() -> None:
    # Thousands of tests, and all modules: there to stay, so no garbage collection needs to look through them.
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip_long_tests(items)


@pytest.fixture(scope="session")
def postgres(testrun_uid: str) -> Iterator[PostgresServer]:
    """One server for the whole run: the workers of pytest-xdist share it."""
    with postgres_server(testrun_uid) as server:
        yield server


@pytest.fixture(scope="session")
def sqlite_template() -> Path:
    """Return a SQLite file with the schema, to be copied."""
    return migrated_sqlite_file()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.on_postgresql)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield the address of a database with the schema and no runs: a SQLite file, or on PostgreSQL (see `full.py`)."""
    if request.param == "sqlite":
        file = tmp_path / "unpause.db"
        shutil.copyfile(migrated_sqlite_file(), file)
        yield sqlite_url(file)
        return
    yield request.getfixturevalue("postgres_url")


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """Yield the address of a PostgreSQL database with the schema and no runs."""
    with postgres.migrated_database() as url:
        yield url
