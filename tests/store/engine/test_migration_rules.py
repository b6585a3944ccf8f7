"""Migrations expand, or say that they do not; and they lock no big table for long. Read from the SQL that they send.

Those up to 0014 were made for servers that stop during an upgrade.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event

from tests.support.databases import PostgresServer
from unpause.store.engine import migrate

LAST_WITHOUT_RULES: Final = "0014"

# What code of before may not survive: it reads what is gone, or does not write what is needed now.
_CONTRACTS: Final = re.compile(
    r"\bDROP (TABLE|COLUMN)\b|\bRENAME\b|\bSET NOT NULL\b|\bALTER COLUMN \S+ TYPE\b"
    r"|\bADD COLUMN (?!.*\bDEFAULT\b).*\bNOT NULL|\bADD CONSTRAINT\b",
    re.IGNORECASE,
)
# Of columns that code of before fills.
_UNIQUE: Final = re.compile(r"\bCREATE UNIQUE INDEX\b.*\((.*?)\)", re.IGNORECASE)
_UNDOES: Final = re.compile(r"\bDROP (?:TABLE|COLUMN) (?:IF EXISTS )?(\w+)", re.IGNORECASE)
_ADDS: Final = re.compile(r"\b(?:CREATE TABLE|ADD COLUMN) (\w+)", re.IGNORECASE)
_NEEDS_VALUE: Final = re.compile(r"\bSET NOT NULL\b|\bADD COLUMN (?!.*\bDEFAULT\b).*\bNOT NULL", re.IGNORECASE)
_LOCKS: Final = re.compile(r"\b(CREATE( UNIQUE)?|DROP) INDEX (?!CONCURRENTLY)", re.IGNORECASE)
_FILLS: Final = re.compile(r"^(UPDATE (?!.*\bBETWEEN\b)|DELETE )", re.IGNORECASE)
_TABLE: Final = re.compile(r"^(?:\w+ )*?(?:TABLE|ON|UPDATE|FROM) (\w+)", re.IGNORECASE)
_IS_NO_CHANGE: Final = re.compile(r"SELECT|SET|INSERT|(UPDATE|DELETE FROM) (alembic_version|schema_compatibility)\b")


def faults(up: list[str], down: list[str], oldest_code: str | None) -> list[str]:
    """Return the statements of a migration, up and down, that break a rule."""
    added = {name for statement in up for name in _ADDS.findall(statement)}
    up, down = ([each for each in statements if _table(each) not in added] for statements in (up, down))
    found = [each for each in up if oldest_code is None and (_CONTRACTS.search(each) or _narrows(each, added))]
    found += [each for each in (*up, *down) if _LOCKS.search(each) or _FILLS.search(each)]
    found += [each for each in down if _NEEDS_VALUE.search(each)]
    if oldest_code is None:
        found += [each for each in down if (gone := _UNDOES.search(each)) and gone[1] not in added]
    return found


def _narrows(statement: str, added: set[str]) -> bool:
    """Whether it forbids rows that code of before writes."""
    unique = _UNIQUE.search(statement)
    return unique is not None and not added & set(unique[1].split(", "))


def _table(statement: str) -> str | None:
    found = _TABLE.search(statement)
    return found[1] if found else None


@contextmanager
def recorded() -> Iterator[list[str]]:
    """Record the statements that change something, on one line each."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        line = " ".join(statement.replace('"', "").split())
        if not _IS_NO_CHANGE.match(line):
            statements.append(line)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_migrations_expand_or_say_that_they_do_not(postgres: PostgresServer) -> None:
    tree = ScriptDirectory(str(migrate.migrations_folder()))
    later = [each for each in tree.walk_revisions() if each.revision > LAST_WITHOUT_RULES][::-1]
    with postgres.database() as url:
        migrate.upgrade(url, LAST_WITHOUT_RULES)
        up, down = {}, {}
        for script in later:
            with recorded() as up[script.revision]:
                migrate.upgrade(url, script.revision)
        for script in reversed(later):
            with recorded() as down[script.revision]:
                migrate.downgrade(url, str(script.down_revision))
    assert all((up["0015"], down["0015"])), "nothing was recorded"
    for script in later:
        assert hasattr(script.module, "oldest_code"), f"{script.revision} does not say which code works with its schema"
        assert not faults(up[script.revision], down[script.revision], script.module.oldest_code), script.revision


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE runs DROP COLUMN summary",
        "DROP TABLE inputs",
        "ALTER TABLE runs RENAME COLUMN summary TO digest",
        "ALTER TABLE runs RENAME TO executions",
        "ALTER TABLE runs ADD COLUMN owner VARCHAR(255) NOT NULL",
        "ALTER TABLE runs ALTER COLUMN summary SET NOT NULL",
        "ALTER TABLE runs ALTER COLUMN summary TYPE VARCHAR(10)",
        "ALTER TABLE runs ADD CONSTRAINT ck_runs_summary CHECK (summary <> '')",
        "CREATE UNIQUE INDEX CONCURRENTLY ix_runs_summary ON runs (summary)",
    ],
)
def test_a_migration_that_code_of_before_may_not_survive_says_so(statement: str) -> None:
    assert faults([statement], [], None) == [statement]
    assert faults([statement], [], "9999") == []


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX ix_runs_summary ON runs (summary)",
        "DROP INDEX ix_runs_summary",
        "UPDATE runs SET summary = '' WHERE summary IS NULL",
        "DELETE FROM events WHERE type = 'x'",
    ],
)
def test_a_migration_that_locks_a_big_table_for_long_is_refused_in_both_directions(statement: str) -> None:
    assert faults([statement], [], "9999") == [statement]
    assert faults([], [statement], "9999") == [statement]


def test_a_way_back_drops_what_the_way_there_added_and_nothing_else() -> None:
    add, drop = "ALTER TABLE runs ADD COLUMN owner TEXT", "ALTER TABLE runs DROP COLUMN owner"
    assert faults([add], [drop], None) == []
    assert faults([], [drop], None) == [drop]
    needed = "ALTER TABLE runs ADD COLUMN owner TEXT NOT NULL"
    assert faults([drop], [needed], "9999") == [needed], "rows of now have no value for it"


def test_a_new_table_is_as_free_as_one_likes() -> None:
    create = "CREATE TABLE things ( id INTEGER NOT NULL, name TEXT )"
    assert faults([create, "CREATE UNIQUE INDEX ix_things_name ON things (name)"], ["DROP TABLE things"], None) == []
    assert faults(["ALTER TABLE runs ADD COLUMN thing INTEGER DEFAULT 0 NOT NULL"], [], None) == []
