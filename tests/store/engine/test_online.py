"""A migration of big tables on PostgreSQL: it stops nobody for long, can be interrupted, and goes on where it was."""

from __future__ import annotations

import threading
from contextlib import closing

import psycopg
import pytest
from sqlalchemy import text

from tests.support.cluster import wait_until
from tests.support.databases import new_run
from tests.support.migrations import NextMigration
from unpause.errors import DatabaseInUse
from unpause.store.engine import migrate, migration_locks
from unpause.store.engine.revisions import SCHEMA_REVISION, session_name
from unpause.store.engine.schema import plain_connection, plain_engine

INDEX = (
    'online.create_index("ix_next", "runs", ["summary"], rows=sa.text("summary IS NOT NULL"))\n'
    '    online.add_column("runs", sa.Column("next", sa.Integer(), nullable=True))\n'
    '    online.fill("runs", "next = id * 2", "next IS NULL", batch=2)'
)
BACK = 'online.drop_index("ix_next", "runs")\n    op.drop_column("runs", "next")'


def connect(url: str, name: str = "psql") -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(url.replace("+psycopg", ""), application_name=name)


def is_valid(url: str) -> bool | None:
    with plain_connection(url) as connection:
        found = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('ix_next')")
        return connection.execute(found).scalar()


def add_runs(url: str, count: int) -> None:
    with plain_engine(url).begin() as connection:
        for _ in range(count):
            new_run(connection)


def test_an_index_columns_and_rows_are_added_online_and_taken_back(
    database_url: str, next_revision: NextMigration
) -> None:
    add_runs(database_url, 5)
    next_revision(INDEX, back=BACK)
    migrate.upgrade(database_url)
    with plain_connection(database_url) as connection:
        assert connection.execute(text("SELECT count(*) FROM runs WHERE next = id * 2")).scalar() == 5
    migrate.downgrade(database_url, SCHEMA_REVISION)
    migrate.check(database_url)


def test_an_interrupted_migration_goes_on_and_an_index_that_was_left_invalid_is_made_again(
    postgres_url: str, next_revision: NextMigration
) -> None:
    add_runs(postgres_url, 5)
    next_revision(f"{INDEX}\n    op.execute('SELECT 1 / 0')")
    with pytest.raises(Exception, match="division by zero"):
        migrate.upgrade(postgres_url)
    assert (migrate.current(postgres_url).revision, is_valid(postgres_url)) == (SCHEMA_REVISION, True)
    with connect(postgres_url) as connection:
        connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_next'::regclass")
    next_revision(INDEX)
    migrate.upgrade(postgres_url)
    assert (migrate.current(postgres_url).revision, is_valid(postgres_url)) == ("9999", True)


def test_while_an_index_waits_for_a_long_transaction_others_write(
    postgres_url: str, next_revision: NextMigration
) -> None:
    next_revision(INDEX)
    with closing(connect(postgres_url)) as long:
        long.execute("UPDATE runs SET summary = summary")
        upgrading = threading.Thread(target=migrate.upgrade, args=(postgres_url,))
        upgrading.start()
        wait_until(lambda: is_valid(postgres_url) is False, "the index is being created")
        add_runs(postgres_url, 1)
        assert upgrading.is_alive()
    upgrading.join()
    assert is_valid(postgres_url)


def test_a_change_that_waits_for_a_table_lets_others_pass_and_is_tried_again(
    postgres_url: str, next_revision: NextMigration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNPAUSE_LOCK_TIMEOUT_SECONDS", "0.2")
    next_revision('op.add_column("runs", sa.Column("next", sa.Integer()))')
    reports: list[str] = []
    with closing(connect(postgres_url)) as reader:
        reader.execute("SELECT count(*) FROM runs")

        def report(what: str) -> None:
            reports.append(what)
            # Those that queued behind it pass before it is tried again.
            add_runs(postgres_url, 1)
            reader.rollback()

        migrate.upgrade(postgres_url, report=report)
    assert reports == ["another transaction holds a table: trying again"]
    assert migrate.current(postgres_url).revision == "9999"


def test_of_two_upgrades_at_once_one_waits_and_says_so(postgres_url: str, next_revision: NextMigration) -> None:
    next_revision(INDEX)
    engine = plain_engine(postgres_url)
    waiting = threading.Event()
    with migration_locks.only_migration(engine, None):
        reports: list[str] = []

        def report(what: str) -> None:
            reports.append(what)
            waiting.set()

        other = threading.Thread(target=migrate.upgrade, args=(postgres_url,), kwargs={"report": report})
        other.start()
        assert waiting.wait(60)
    other.join()
    assert reports == ["another process is changing the schema: waiting for its end"]
    assert migrate.current(postgres_url).revision == "9999"


def test_while_nodes_are_connected_the_schema_does_not_leave_what_they_work_with(
    postgres_url: str, next_revision: NextMigration
) -> None:
    old, new = (session_name().replace(SCHEMA_REVISION, number) for number in (SCHEMA_REVISION, "9999"))
    new = new.replace("schema 0", "schema 9")
    next_revision("pass", oldest_code="9999")
    with closing(connect(postgres_url, old)):
        with pytest.raises(DatabaseInUse, match=rf"do not work with 9999: {old}\. Stop them"):
            migrate.upgrade(postgres_url)
        assert migrate.current(postgres_url).revision == SCHEMA_REVISION
        migrate.upgrade(postgres_url, force=True)
    with closing(connect(postgres_url, new)):
        with pytest.raises(DatabaseInUse, match=rf"do not work with {SCHEMA_REVISION}"):
            migrate.downgrade(postgres_url, "-1")
        assert migrate.current(postgres_url).revision == "9999"
    migrate.downgrade(postgres_url, "-1")
    assert migrate.current(postgres_url).revision == SCHEMA_REVISION
