"""The chain of the audit trail: what is sealed, and that `unpause audit verify` finds what somebody changed later."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from tests.store.test_audit import RUN, changes_of, entry, execute, refused, written
from tests.support.databases import NOW, sqlite_url
from tests.support.full import IS_FULL
from tests.support.memory import peak_of
from unpause.cli.main import main
from unpause.clock import SystemClock
from unpause.domain.audit_chain import write_numbers
from unpause.domain.principal import Principal
from unpause.services.audit_chain import BATCH, AuditSealing
from unpause.services.erasure import Erasure
from unpause.store.audit import add_entries
from unpause.store.audit_chain import lock_head
from unpause.store.engine import migrate
from unpause.store.engine.database import Database
from unpause.store.engine.schema import plain_engine
from unpause.store.tables import audit, organizations
from unpause.testing.environment import migrated_sqlite_file

Verify = Callable[..., tuple[int, dict[str, Any]]]


async def seal(url: str) -> int:
    async with Database(url).opened() as database:
        return await AuditSealing(database).sweep()


async def sealed(url: str, count: int = 5) -> None:
    """Add entries of two people and seal them."""
    people = ("ada", "bob")
    await written(url, *(entry(actor=people[each % 2], note=f"note {each}", run_id=RUN) for each in range(count)))
    assert await seal(url) == count


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Verify:
    """Return what runs the command, and returns its exit code and its report about the first organization."""

    def run(url: str, *arguments: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        code = 0
        try:
            main(["audit", "verify", "--json", "--database-url", url, *arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        report = json.loads(capsys.readouterr().out)
        assert report["whole"] == (code == 0)
        return code, report["organizations"][0]

    return run


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    """Return the address of a SQLite file: how a chain is checked is the same on both databases."""
    return sqlite_url(Path(shutil.copyfile(migrated_sqlite_file(), tmp_path / "unpause.db")))


def tamper(url: str, *statements: str) -> None:
    """Do what somebody can who owns the database file: drop the triggers first."""
    for statement in (*(f"DROP TRIGGER audit_no_{change}" for change in ("update", "delete", "replace")), *statements):
        execute(url, statement)


async def test_sealed_entries_are_numbered_without_a_gap_and_found_whole(database_url: str, verify: Verify) -> None:
    assert verify(database_url)[1]["newest"]["number"] == 0
    await sealed(database_url)
    await written(database_url, entry(actor="cleo"))
    code, found = verify(database_url)
    assert (code, found["entries"], found["newest"]["number"], found["unsealed"]) == (0, 5, 5, 1)
    assert await seal(database_url) == 1
    assert await seal(database_url) == 0
    assert verify(database_url)[1]["newest"]["number"] == 6


@pytest.mark.parametrize(
    ("statements", "kind", "number", "message"),
    [
        (["UPDATE audit SET actor = 'eve' WHERE number = 3"], "changed", 3, "the actor of entry 3"),
        (["UPDATE audit SET note = 'yes' WHERE number = 3"], "changed", 3, "the texts of entry 3"),
        (["UPDATE audit SET decision = 'confirmed' WHERE number = 3"], "changed", 3, "entry 3 was changed"),
        (["UPDATE audit SET via = 'cli' WHERE number = 1"], "changed", 1, "entry 1 was changed"),
        (["UPDATE audit SET actor = 'eve', actor_salt = NULL WHERE number = 3"], "erased", 5, "1 actors or texts"),
        (["DELETE FROM audit WHERE number = 3"], "removed", 3, "entry 3 is missing"),
        (["DELETE FROM audit WHERE number IN (2, 3)"], "removed", 2, "entries 2 to 3 are missing"),
        (["DELETE FROM audit WHERE number = 1"], "removed", 1, "entry 1 is missing"),
        (["DELETE FROM audit WHERE number = 5"], "removed", 5, "entry 5 is missing"),
        (["DELETE FROM audit"], "removed", 1, "entries 1 to 5 are missing"),
        (["DELETE FROM audit", "DELETE FROM audit_heads"], None, None, ""),
        (["UPDATE audit SET action = 'unknown' WHERE number = 3"], "changed", 3, "(unknown at 2026"),
        (["UPDATE audit SET details = '[1]' WHERE number = 3"], "changed", 3, "the texts of entry 3"),
        (["UPDATE audit SET details = 'garbage' WHERE number = 3"], "changed", 3, "the entry with id 3"),
        (["UPDATE audit SET at = '9999-99-99' WHERE number = 3"], "changed", 3, "the entry with id 3"),
        (["UPDATE audit SET note = x'ff' WHERE number = 3"], "changed", 3, "the entry with id 3"),
        (["UPDATE audit SET note = CAST(x'ff' AS TEXT) WHERE number = 3"], "changed", 3, "the texts of entry 3"),
        (["UPDATE audit SET number = 'x' WHERE number = 3"], "removed", 3, "entry 3 is missing"),
        (["UPDATE audit_heads SET number = 'x'"], "head", 0, "the head cannot be read"),
        (["UPDATE audit_heads SET purged_number = 1"], "head", 1, "entries up to 1 were purged"),
        (["DELETE FROM audit_heads"], "head", 5, "the newest entry is 0"),
        (["UPDATE audit_heads SET number = 4 WHERE number = 5"], "head", 5, "the newest entry is 4"),
        (
            [
                "UPDATE audit SET number = 9 WHERE number = 3",
                "UPDATE audit SET number = 3 WHERE number = 4",
                "UPDATE audit SET number = 4 WHERE number = 9",
            ],
            "changed",
            3,
            "entry 3 was changed, inserted or moved",
        ),
        (
            [
                "UPDATE audit SET number = 6 WHERE number = 5",
                (
                    "INSERT INTO audit (organization_id, at, action, via, number, hash, actor_digest, texts_digest)"
                    " SELECT organization_id, at, action, via, 5, hash, actor_digest, texts_digest FROM audit"
                    " WHERE number = 4"
                ),
            ],
            "changed",
            5,
            "entry 5 was changed, inserted or moved",
        ),
    ],
)
async def test_what_was_changed_removed_inserted_or_moved_is_named(
    sqlite: str, verify: Verify, statements: list[str], kind: str | None, number: int | None, message: str
) -> None:
    await sealed(sqlite)
    newest = verify(sqlite)[1]["newest"]["hash"]
    tamper(sqlite, *statements)
    code, found = verify(sqlite)
    if kind is None:
        # Without any trace in the database: only what was noted elsewhere tells.
        assert code == 0
        code, found = verify(sqlite, "--expect", f"5:{newest}")
        kind, number = "expected", 0
    assert code == 1
    first = found["findings"][0]
    assert (first["kind"], first["number"]) == (kind, number)
    assert message in first["message"]


async def test_a_hash_that_was_noted_is_found_in_any_organization_as_long_as_the_chain_goes_on_from_it(
    sqlite: str, verify: Verify, capsys: pytest.CaptureFixture[str]
) -> None:
    await sealed(sqlite, 2)
    noted = verify(sqlite)[1]["newest"]["hash"]
    with plain_engine(sqlite).begin() as connection:
        connection.execute(insert(organizations).values(id=2, name="other", created_at=NOW))
        add_entries(connection, [entry(organization_id=2)])
    assert await seal(sqlite) == 1
    assert verify(sqlite, "--expect", noted)[0] == 0
    assert verify(sqlite, "--expect", noted, "--org", "2")[0] == 1
    assert verify(sqlite, "--expect", "0" * 63 + "1")[0] == 1
    for arguments, reason in ((["--expect", "abc"], "is not a hash"), (["--org", "9"], "no organization 9")):
        with pytest.raises(SystemExit) as end:
            main(["audit", "verify", "--database-url", sqlite, *arguments])
        assert end.value.code == 2
        assert reason in capsys.readouterr().err


async def test_the_triggers_refuse_what_is_neither_a_seal_nor_an_erasure(database_url: str) -> None:
    await sealed(database_url, 2)
    for statement in (
        *changes_of(database_url),
        "UPDATE audit SET number = number + 100",
        "UPDATE audit SET number = NULL",
        "UPDATE audit SET hash = 'x'",
        "UPDATE audit SET texts_digest = 'x', texts_salt = NULL",
        "UPDATE audit SET at = '2027-01-01', texts_salt = NULL, actor_salt = NULL",
        "UPDATE audit SET actor = 'eve', texts_salt = NULL",
        "UPDATE audit SET details = NULL, note = NULL, actor_salt = NULL",
    ):
        refused(database_url, statement)


async def test_an_entry_that_is_committed_after_a_later_one_is_sealed_too(postgres_url: str, verify: Verify) -> None:
    late = plain_engine(postgres_url).connect()
    begun = late.begin()
    add_entries(late, [entry(actor="late")])
    await sealed(postgres_url, 2)
    begun.commit()
    late.close()
    assert await seal(postgres_url) == 1
    code, found = verify(postgres_url)
    assert (code, found["entries"], found["unsealed"]) == (0, 3, 0)


async def test_changes_do_not_wait_for_the_one_that_seals_and_nobody_else_seals_meanwhile(postgres_url: str) -> None:
    await sealed(postgres_url, 1)
    with plain_engine(postgres_url).begin() as sealing:
        assert lock_head(sealing, 1) is not None
        async with Database(postgres_url, lock_seconds=0.2).opened() as database:
            adding = (
                database.write(lambda connection: add_entries(connection, [entry(actor="ada")])) for _ in range(8)
            )
            await asyncio.gather(*adding)
            assert await AuditSealing(database).sweep() == 0
    assert await seal(postgres_url) == 8


async def test_two_that_seal_at_once_make_one_chain(database_url: str, verify: Verify) -> None:
    count = 2 * BATCH + 1
    await written(database_url, *(entry(actor=f"user {each}") for each in range(count)))
    async with Database(database_url).opened() as database:
        await asyncio.gather(*(AuditSealing(database).sweep() for _ in range(3)))
        await AuditSealing(database).sweep()
    code, found = verify(database_url)
    assert (code, found["entries"]) == (0, count)


async def erase(url: str, name: str) -> None:
    async with Database(url).opened() as database:
        await Erasure(database, SystemClock(), Principal(1, "command line", via="cli")).erase(name, cancels=False)


async def test_entries_from_before_the_migration_are_sealed_first(empty_database: str, verify: Verify) -> None:
    migrate.upgrade(empty_database, "0015")
    execute(
        empty_database,
        "INSERT INTO audit (organization_id, at, action, via, actor, details)"
        " VALUES (1, '2026-01-01 10:00:00', 'run.continued', 'agno', 'ada', '{\"b\": 1.5, \"a\": [\"é\"]}')",
    )
    migrate.upgrade(empty_database)
    assert await seal(empty_database) == 1
    await erase(empty_database, "ada")
    last = verify(empty_database)[1]["newest"]
    migrate.downgrade(empty_database, "0015")
    refused(empty_database, "DELETE FROM audit")
    refused(empty_database, "UPDATE audit SET actor = 'eve'")
    migrate.upgrade(empty_database)
    # The chain begins anew, and says where the one before ended.
    assert await seal(empty_database) == last["number"] + 1
    code, found = verify(empty_database)
    assert (code, found["findings"]) == (0, [])
    assert [(one["entry"], one["number"], one["hash"]) for one in found["dropped"]] == [(3, 2, last["hash"])]
    code, found = verify(empty_database, "--expect", last["hash"])
    assert (code, [one["kind"] for one in found["findings"]]) == (1, ["expected"])
    assert "before a downgrade of the schema" in found["findings"][0]["message"]


async def test_a_note_of_a_dropped_chain_that_somebody_adds_hides_no_erasure(sqlite: str, verify: Verify) -> None:
    await sealed(sqlite)
    await erase(sqlite, "bob")
    assert verify(sqlite)[0] == 0
    await written(sqlite, replace(entry(), action="audit.chain_dropped"))
    assert await seal(sqlite) == 1
    code, found = verify(sqlite)
    assert (code, [one["kind"] for one in found["findings"]]) == (1, ["erased"])


async def test_a_chain_that_somebody_broke_holds_up_no_other_organization(sqlite: str, verify: Verify) -> None:
    execute(sqlite, "INSERT INTO organizations (id, name, created_at) VALUES (2, 'other', '2026-01-01')")
    await sealed(sqlite)
    execute(sqlite, "DELETE FROM audit_heads")
    await written(sqlite, entry(), replace(entry(), organization_id=2))
    assert await seal(sqlite) == 1
    assert verify(sqlite, "--org", "2")[0] == 0


@pytest.mark.timeout(900)
async def test_a_long_chain_is_checked_in_little_memory(database_url: str, verify: Verify) -> None:
    count = 100_000 if IS_FULL else 2 * BATCH
    rows = [
        {"organization_id": 1, "at": NOW + timedelta(seconds=each), "action": "run.continued", "via": "agno"}
        for each in range(count)
    ]
    with plain_engine(database_url).begin() as connection:
        connection.execute(insert(audit), rows)
    del rows

    async def seal_all() -> None:
        while await seal(database_url):
            pass

    await seal_all()
    found, peak = peak_of(lambda: verify(database_url)[1])
    assert found["entries"] == count
    assert peak < 8_000_000


def test_numbers_are_written_as_ranges() -> None:
    assert write_numbers([1, 2, 3, 7, 9, 10]) == "1-3,7,9-10"
    assert write_numbers([]) == ""
