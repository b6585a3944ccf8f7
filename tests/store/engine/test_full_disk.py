"""A disk that is full: writes are refused as such, reads go on, and the log says it once, until there is room again."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from structlog.testing import capture_logs

from tests.support.databases import copy_database, sqlite_url
from unpause.errors import DatabaseFull, DatabaseUnavailable
from unpause.execution.disk_probe import DiskProbe
from unpause.store.engine.backup import marked_in_use
from unpause.store.engine.database import Database
from unpause.testing.environment import migrated_sqlite_file


def count_nodes(connection: Connection) -> int:
    return int(connection.execute(text("SELECT count(*) FROM nodes")).scalar_one())


async def test_a_full_disk_refuses_writes_until_it_has_room_again(tmp_path: Path) -> None:
    copy_database(migrated_sqlite_file(), tmp_path / "small.db")
    database = Database(sqlite_url(tmp_path / "small.db"))
    probe = DiskProbe(database)
    with capture_logs() as logs:
        async with database.opened():
            assert await probe.sweep() == 0
            # What SQLite answers where the disk is full, it answers here, too.
            pages = await database.write(lambda connection: set_most_pages(connection, 1))
            for _ in range(3):
                with pytest.raises(DatabaseFull):
                    await database.append(fill)
                assert await database.read(count_nodes) == 0
                with pytest.raises(DatabaseFull):
                    await probe.sweep()
                assert database.availability.is_full
            await database.write(lambda connection: set_most_pages(connection, 100 * pages))
            await database.append(fill)
            assert database.availability.is_full, "much may still not fit"
            assert await probe.sweep() == 1
            assert await probe.sweep() == 0
    assert [line["event"] for line in logs] == ["database unavailable", "database available again"]


def set_most_pages(connection: Connection, most: int) -> int:
    return int(connection.exec_driver_sql(f"PRAGMA max_page_count = {most}").scalar_one())


def fill(connection: Connection) -> None:
    connection.exec_driver_sql("INSERT INTO nodes VALUES ('a', 'a', '1', zeroblob(200000), '', '', 0)")


async def test_a_database_beside_which_nothing_can_be_written_is_away_and_no_error_of_the_driver(
    tmp_path: Path,
) -> None:
    copy_database(migrated_sqlite_file(), tmp_path / "small.db")
    (tmp_path / "small.db-wal").mkdir()
    with pytest.raises(DatabaseUnavailable):
        async with Database(sqlite_url(tmp_path / "small.db")).opened():
            pass
    with pytest.raises(DatabaseUnavailable), marked_in_use(sqlite_url(tmp_path / "small.db")):
        pass
