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
    postgres_server,
    sqlite_url,
)
from tests.support.engines import let_engines_wait, quicken_engines
from tests.support.full import IS_FULL, skip_long_tests
from unpause.testing.environment import log_plainly, migrated_sqlite_file

# No deadline, because a busy machine is no fault; no database of examples in the working tree. New examples are looked
# for in the long form alone, so that what they find is no surprise to a change that has nothing to do with it.
settings.register_profile(
    "unpause", deadline=None, database=None, derandomize=not IS_FULL, max_examples=100 if IS_FULL else 40
)
settings.load_profile("unpause")

quicken_engines()
let_engines_wait()

log_plainly()

# While all tests and modules are loaded: next to nothing of it is garbage, and to look for that takes long.
gc.disable()


def pytest_collection_finish() -> None:
    # They are there to stay, so that no later collection needs to look through them.
    gc.collect()
    gc.freeze()
    gc.enable()


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
