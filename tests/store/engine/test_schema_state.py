"""What a server says about a schema that is not its own: none, one behind, one ahead."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from tests.support.migrations import NextMigration
from unpause.errors import SchemaMismatch
from unpause.store.engine import migrate
from unpause.store.engine.revisions import OLDEST_SCHEMA, SCHEMA_REVISION
from unpause.store.engine.schema import check_database, plain_connection, plain_engine


def execute(url: str, *statements: str) -> None:
    with plain_engine(url).begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def be_ahead(url: str, *, oldest_code: str) -> None:
    """Make the schema one of a later version, which works with this code or older."""
    execute(
        url,
        "UPDATE alembic_version SET version_num = '9999'",
        f"UPDATE schema_compatibility SET oldest_code = '{oldest_code}'",  # noqa: S608 - a test's own
    )


def test_a_database_without_a_schema_wants_an_upgrade(empty_database: str) -> None:
    with pytest.raises(SchemaMismatch, match=r"is at nothing.*unpause db upgrade"):
        check_database(empty_database)


def test_an_empty_version_table_is_no_schema(empty_database: str) -> None:
    migrate.upgrade(empty_database)
    execute(empty_database, "DELETE FROM alembic_version")
    with pytest.raises(SchemaMismatch, match=r"is at nothing.*unpause db upgrade"):
        check_database(empty_database)


def test_a_schema_behind_wants_an_upgrade(database_url: str) -> None:
    execute(database_url, "UPDATE alembic_version SET version_num = '0000'")
    with pytest.raises(SchemaMismatch, match=rf"is at 0000.*needs .*{SCHEMA_REVISION}.*unpause db upgrade"):
        check_database(database_url)


def test_a_schema_ahead_names_the_command_that_brings_it_back(database_url: str) -> None:
    be_ahead(database_url, oldest_code="9999")
    with pytest.raises(SchemaMismatch, match=rf"is at 9999, ahead of.*unpause db downgrade {SCHEMA_REVISION}"):
        check_database(database_url)


@pytest.mark.parametrize("statement", ["DELETE FROM schema_compatibility", "DROP TABLE schema_compatibility"])
def test_a_schema_ahead_that_does_not_say_which_code_works_with_it_is_refused(
    database_url: str, statement: str
) -> None:
    be_ahead(database_url, oldest_code=SCHEMA_REVISION)
    check_database(database_url)
    execute(database_url, statement)
    with pytest.raises(SchemaMismatch, match="is at 9999, ahead of"):
        check_database(database_url)


def test_the_oldest_schema_of_this_code_has_every_column_that_it_uses(empty_database: str) -> None:
    migrate.upgrade(empty_database, OLDEST_SCHEMA)
    with plain_connection(empty_database) as connection:
        missing = [each for each in migrate.compare(connection) if each[0] in migrate.LACKS]
    # It is only read where the schema is ahead.
    assert [table.name for _, table in missing] in ([], ["schema_compatibility"]), f"raise OLDEST_SCHEMA: {missing}"
    check_database(empty_database)


def test_the_database_records_the_oldest_code_that_works_with_its_schema(
    database_url: str, next_revision: NextMigration
) -> None:
    oldest = migrate.current(database_url).oldest_code
    next_revision("pass")
    migrate.upgrade(database_url)
    state = migrate.current(database_url)
    assert (state.revision, state.oldest_code, state.is_supported) == ("9999", "0015", True)
    migrate.check(database_url)
    migrate.upgrade(database_url)
    migrate.downgrade(database_url, SCHEMA_REVISION)
    assert migrate.current(database_url).oldest_code == oldest
    next_revision("pass", oldest_code="9999")
    migrate.upgrade(database_url)
    with pytest.raises(SchemaMismatch, match="is at 9999, ahead of"):
        check_database(database_url)
    migrate.downgrade(database_url, SCHEMA_REVISION)
    check_database(database_url)
