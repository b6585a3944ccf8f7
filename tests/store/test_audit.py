"""The audit trail is append-only: on both databases nobody changes, removes or replaces what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, insert, text
from sqlalchemy.exc import DBAPIError

from tests.support.databases import NOW, Place
from unpause.domain.audit import AuditAction, AuditEntry, AuditFilter
from unpause.domain.paging import Page
from unpause.store.audit import add_entries, list_entries
from unpause.store.engine import migrate
from unpause.store.engine.database import Database
from unpause.store.engine.schema import plain_engine
from unpause.store.tables import organizations

RUN = str(uuid4())
CHANGES = (
    "UPDATE audit SET actor = 'somebody else'",
    "UPDATE audit SET note = NULL WHERE id = 1",
    "UPDATE audit SET id = id + 100",
    "DELETE FROM audit",
    "DELETE FROM audit WHERE run_id IS NOT NULL",
    (
        "INSERT INTO audit (id, organization_id, at, action, via) VALUES (1, 1, '2026-01-01', 'x', 'x')"
        " ON CONFLICT (id) DO UPDATE SET actor = 'somebody else'"
    ),
)
# One row is there, and in the way of another one of its number.
ONLY_SQLITE = (
    "INSERT OR REPLACE INTO audit (id, organization_id, at, action, via) SELECT id, 1, at, 'x', 'x' FROM audit",
    "REPLACE INTO audit (id, organization_id, at, action, via) VALUES (1, 1, '2026-01-01', 'x', 'x')",
)
ONLY_POSTGRESQL = ("TRUNCATE audit", "TRUNCATE organizations CASCADE")


def entry(**sent: Any) -> AuditEntry:  # noqa: ANN401 - fields of an entry
    usual: dict[str, Any] = {"organization_id": 1, "at": NOW, "action": AuditAction.ANSWERED, "via": "agno"}
    return AuditEntry(**{**usual, **sent})


async def written(url: str, *entries: AuditEntry) -> None:
    async with Database(url).opened() as database:
        await database.write(lambda connection: add_entries(connection, entries))


async def read(url: str, organization_id: int, run_id: str | None, part: Page) -> tuple[list[AuditEntry], int]:
    async with Database(url).opened() as database:
        return await database.read(
            lambda connection: list_entries(connection, organization_id, AuditFilter(run_id), part)
        )


def changes_of(url: str) -> Sequence[str]:
    return [*CHANGES, *(ONLY_SQLITE if url.startswith("sqlite") else ONLY_POSTGRESQL)]


def refused(url: str, statement: str) -> None:
    """Fail unless the database refuses the statement."""
    with pytest.raises(DBAPIError, match="the audit trail is append-only"):
        execute(url, statement)


def execute(url: str, statement: str) -> None:
    with plain_engine(url).begin() as connection:
        connection.execute(text(statement))


async def test_no_statement_changes_or_removes_what_was_written_down(database_url: str) -> None:
    await written(database_url, entry(actor="ada", run_id=RUN, note="no"), entry(actor="bob"))
    before = Place(database_url).dump()
    for statement in changes_of(database_url):
        refused(database_url, statement)
    assert Place(database_url).dump() == before


async def test_what_is_written_in_a_unit_that_is_undone_was_never_there(database_url: str) -> None:
    def unit(connection: Connection) -> None:
        add_entries(connection, [entry(actor="ada")])
        raise LookupError

    async with Database(database_url).opened() as database:
        with pytest.raises(LookupError):
            await database.write(unit)
    assert await read(database_url, 1, None, Page()) == ([], 0)


def test_a_schema_that_went_down_and_up_again_refuses_as_before(empty_database: str) -> None:
    migrate.upgrade(empty_database)
    add(empty_database)
    migrate.downgrade(empty_database, "0004")
    migrate.upgrade(empty_database)
    add(empty_database)
    for statement in changes_of(empty_database):
        refused(empty_database, statement)
    assert Place(empty_database).counted()["audit"] == 1


def add(url: str) -> None:
    with plain_engine(url).begin() as connection:
        add_entries(connection, [entry(run_id=RUN)])


async def test_entries_are_listed_newest_first_of_one_organization_and_of_one_run(database_url: str) -> None:
    def other(connection: Connection) -> None:
        connection.execute(insert(organizations).values(id=2, name="other", created_at=NOW))
        add_entries(connection, [entry(organization_id=2, run_id=RUN, actor="eve")])

    async with Database(database_url).opened() as database:
        await database.write(other)
    sent = entry(
        actor="ada",
        token_id="abc",
        address="192.0.2.1",
        run_id=RUN,
        subject="requirement",
        decision="confirmed",
        note="fine",
        details={"tool_name": "pay", "fields": ["to"]},
    )
    await written(database_url, sent, entry(actor="bob"), entry(actor="cleo"))
    found, total = await read(database_url, 1, None, Page())
    assert ([one.actor for one in found], total) == (["cleo", "bob", "ada"], 3)
    found, total = await read(database_url, 1, None, Page(1, offset=1))
    assert ([one.actor for one in found], total) == (["bob"], 3)
    (found, total), (theirs, _) = [await read(database_url, number, RUN, Page()) for number in (1, 2)]
    assert [one.actor for one in theirs] == ["eve"]
    assert total == 1
    assert {**vars_of(found[0]), "id": None} == vars_of(sent)


def vars_of(one: AuditEntry) -> dict[str, Any]:
    return {name: getattr(one, name) for name in AuditEntry.__dataclass_fields__}


async def test_an_action_of_newer_code_is_listed_by_its_word(database_url: str) -> None:
    await written(database_url, entry(action="thing.invented"))
    ((found,), _) = await read(database_url, 1, None, Page())
    assert found.action == "thing.invented"
