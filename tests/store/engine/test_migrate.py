"""Migrations, up and down with data on both databases."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert, inspect, select, text

from tests.support.databases import NOW, Place, new_run, sqlite_url
from tests.support.migrations import NextMigration
from unpause.domain.audit import AuditAction, entry_by
from unpause.domain.deciders import Deciders, Vote
from unpause.domain.event_payloads import call_payload, pause_payload
from unpause.domain.events import Event, EventType
from unpause.domain.grants import Grant, GrantMatch, GrantScope, Remember, StrictRule, fingerprint_of
from unpause.domain.idempotency import RequestKey
from unpause.domain.notifications import Channel, ChannelEvent, Notification
from unpause.domain.principal import Principal
from unpause.domain.requirements import Requirement, RequirementKind
from unpause.domain.runs import CallStatus, Message, Outcome, Run, RunInput, RunStatus, ToolCall, TranscriptEntry
from unpause.domain.tokens import ConsoleCredential, Token
from unpause.domain.webhooks import Address, Delivery, WebhookTarget
from unpause.errors import Collision, DatabaseInUse, SchemaMismatch
from unpause.services.audit_chain import seal_batch
from unpause.store.approvals import add_approvals
from unpause.store.audit import add_entries
from unpause.store.audit_chain import add_head
from unpause.store.channels import add_channel
from unpause.store.console_sessions import add_console_session, add_login_link
from unpause.store.deliveries import add_deliveries
from unpause.store.engine import migrate, migration_locks
from unpause.store.engine.database import Database
from unpause.store.engine.revisions import SCHEMA_REVISION
from unpause.store.engine.schema import check_database, plain_engine
from unpause.store.events import add_events
from unpause.store.grants import add_grant
from unpause.store.idempotency import add_effect, claim_request
from unpause.store.journal import add_input, add_messages, add_tool_calls
from unpause.store.notifications import add_notifications
from unpause.store.requirements import add_requirements, keep_votes, list_requirements
from unpause.store.tables import inputs, metadata, nodes, rate_counts, user_erasures
from unpause.store.tokens import add_token
from unpause.store.webhooks import replace_run_targets
from unpause.vault import Encrypted

DECIDERS = Deciders(four_eyes=True, approvers=("olga", "finance:approve"), quorum=2)
REMEMBER = Remember(GrantMatch.TOOL, (GrantScope.RUN,), 60.0, (StrictRule.QUORUM,))
VOTE = Vote("olga", NOW, "agno", "fine")


def fill(connection: Connection) -> None:
    """Put rows into every table: two runs with all that belongs to a run."""
    for number in (1, 2):
        values = {"metadata": {"n": number}, "usage": {"requests": 1}, "last_sequence": 1, "pause_id": "pause"}
        run = new_run(connection, RunStatus.PAUSED, **values)
        add_events(connection, run.id, (Event(EventType.RUN_STARTED, NOW, {"ü": [1, None]}),), 1)
        add_input(connection, run.id, RunInput(0, "hello"), "ada", NOW)
        entry = TranscriptEntry("e", "user", "hello", NOW)
        add_messages(connection, run.id, [Message(0, {"native": True}, (entry,))], NOW)
        add_tool_calls(connection, run.id, [ToolCall("call", "tool", {"a": 1}, 0, 0, NOW)])
        requirement = Requirement(
            f"r{number}",
            "pause",
            "call",
            "call",
            "tool",
            {"a": 1},
            RequirementKind.CONFIRMATION,
            NOW,
            approval="required",
            expires_at=NOW + timedelta(hours=1),
            remind_at=NOW,
            deciders=DECIDERS,
            remember=REMEMBER,
        )
        add_requirements(connection, run, [requirement], 0, NOW)
        keep_votes(connection, requirement.id, [VOTE], NOW)
        add_approvals(connection, run, [requirement], NOW)
        add_grant(connection, grant_of(run, requirement))
        requested = RequestKey(run.organization_id, f"key {number}", "fingerprint")
        assert claim_request(connection, requested, NOW) is None
        add_effect(connection, requested, run.id, 0)
        replace_run_targets(
            connection, run, [WebhookTarget(Address("https://example.org"), Encrypted("encrypted"))], NOW
        )
        delivery = Delivery(f"msg_{number}", run.organization_id, Address("https://example.org"), "{}", NOW)
        add_deliveries(connection, [delivery])
        channel = Channel(
            organization_id=run.organization_id,
            kind="json",
            url=Encrypted("encrypted"),
            events=(ChannelEvent.WAITING,),
            created_at=NOW,
            scopes=frozenset({"agents:run"}),
        )
        told = Notification(
            add_channel(connection, channel), ChannelEvent.WAITING, f"r{number}", run.run_id, "agent", "tool", NOW, NOW
        )
        add_notifications(connection, run.organization_id, [told])
        add_token(connection, Token(f"token {number}", run.organization_id, "ada", None, "hash", ("agents:run",), NOW))
        credential = ConsoleCredential(f"hash {number}", f"token {number}", NOW, NOW + timedelta(hours=1))
        add_console_session(connection, credential)
        add_login_link(connection, credential)
        add_entries(connection, [entry_by(Principal(run.organization_id, "ada"), AuditAction.VOTED, NOW)])
    node = {"id": "node", "name": "here", "version": "1", "agents": ["scripted"], "started_at": NOW, "seen_at": NOW}
    connection.execute(insert(nodes), {**node, "running": 3})
    erasure = {"organization_id": 1, "name": "eve", "pseudonym": "erased-1", "started_at": NOW}
    connection.execute(insert(user_erasures), erasure)
    add_head(connection, 1)
    seal_batch(connection, 1)
    connection.execute(insert(rate_counts), {"key": "reads", "count": 1, "ends_at": NOW})


def grant_of(run: Run, requirement: Requirement) -> Grant:
    return Grant(
        id=requirement.id,
        organization_id=run.organization_id,
        agent_id=run.agent_id,
        tool_name="tool",
        scope=GrantScope.RUN,
        match=GrantMatch.ARGUMENTS,
        created_at=NOW,
        run_key=run.id,
        arguments={"a": 1},
        fingerprint=fingerprint_of({"a": 1}),
        deciders=DECIDERS,
    )


async def filled(url: str) -> dict[str, list[dict[str, Any]]]:
    """Fill the database through the server's own way to it; return all rows."""
    async with Database(url).opened() as database:
        await database.write(fill)
    rows = Place(url).dump()
    assert all(rows.values()), "every table has rows"
    return rows


def revisions() -> list[str]:
    """Return all revisions, oldest first."""
    tree = ScriptDirectory(str(migrate.migrations_folder()))
    return [script.revision for script in tree.walk_revisions()][::-1]


def tables(url: str) -> set[str]:
    with closing(plain_engine(url).connect()) as connection:
        return set(inspect(connection).get_table_names())


def test_the_revision_that_the_server_expects_is_the_newest_migration() -> None:
    assert migrate.head() == SCHEMA_REVISION
    assert len(revisions()) == len(set(revisions()))


def test_an_upgraded_database_is_as_the_tables_of_the_code(empty_database: str) -> None:
    assert migrate.current(empty_database).revision is None
    migrate.upgrade(empty_database)
    assert migrate.current(empty_database).revision == migrate.head()
    assert tables(empty_database) == {*metadata.tables, "alembic_version"}
    migrate.check(empty_database)
    check_database(empty_database)


def test_check_names_what_differs(empty_database: str) -> None:
    migrate.upgrade(empty_database)
    with plain_engine(empty_database).begin() as connection:
        connection.execute(text("DROP INDEX ix_runs_organization_id_id"))
        connection.execute(text("ALTER TABLE runs ADD COLUMN surplus TEXT"))
    with pytest.raises(SchemaMismatch) as caught:
        migrate.check(empty_database)
    assert "surplus" in caught.value.message
    assert "ix_runs_organization_id_id" in caught.value.message


async def test_upgrading_again_changes_nothing(empty_database: str) -> None:
    migrate.upgrade(empty_database)
    rows = await filled(empty_database)
    migrate.upgrade(empty_database)
    assert Place(empty_database).dump() == rows


async def test_rows_survive_every_step_down_to_the_first_revision_and_up_again(empty_database: str) -> None:
    migrate.upgrade(empty_database)
    rows = await filled(empty_database)
    first, *_ = revisions()
    for revision in reversed(revisions()):
        migrate.downgrade(empty_database, revision)
        assert migrate.current(empty_database).revision == revision
    assert migrate.current(empty_database).revision == first
    for revision in revisions():
        migrate.upgrade(empty_database, revision)
    migrate.check(empty_database)
    # The first revision has no place for these; what waits for an administrator gets its record again on the way up.
    lost = (
        *("idempotency_keys", "rate_counts", "webhook_targets", "webhook_deliveries"),
        *("tokens", "audit", "console_sessions", "login_links", "grants"),
        *("notification_channels", "notifications", "audit_heads", "user_erasures"),
    )
    kept = {name: len(found) for name, found in rows.items()} | dict.fromkeys(lost, 0)
    assert Place(empty_database).counted() == kept


async def test_after_a_way_down_a_large_result_stands_wherever_the_version_before_reads_it(empty_database: str) -> None:
    long = "x" * 5000
    value = {"kind": "tool-return", "return_value": long, "metadata": {"raw": long}}
    call = ToolCall("call", "tool", {}, 0, 0, NOW, CallStatus.FINISHED, False, Outcome.SUCCESS, value, long)  # noqa: FBT003
    native = {"parts": [{"tool_call_id": "call", "content": long, "metadata": {"raw": long}}]}
    entry = TranscriptEntry("e", "tool", long, NOW, tool_call_id="call")
    payloads = [call_payload(call), pause_payload("p", "", [call], []), {**call_payload(call), "error": long}]

    def fill_large(connection: Connection) -> None:
        run = new_run(connection)
        add_tool_calls(connection, run.id, [call])
        add_messages(connection, run.id, [Message(0, native, (entry,))], NOW, {"call": call})
        kinds = (EventType.TOOL_CALL_COMPLETED, EventType.RUN_PAUSED, EventType.TOOL_CALL_FAILED)
        add_events(
            connection, run.id, [Event(kind, NOW, payload) for kind, payload in zip(kinds, payloads, strict=True)], 3
        )

    migrate.upgrade(empty_database)
    async with Database(empty_database).opened() as database:
        await database.write(fill_large)
    assert str(Place(empty_database).dump()).count(long) == 2
    migrate.downgrade(empty_database, "0005")
    migrate.upgrade(empty_database)
    rows = Place(empty_database).dump()
    assert [row["payload"] for row in rows["events"]] == payloads
    assert [(row["native"], row["entries"][0]["content"]) for row in rows["messages"]] == [(native, long)]
    assert [(row["result"], row["result_text"]) for row in rows["tool_calls"]] == [(value, long)]


@pytest.mark.parametrize("has_answer", [True, False])
async def test_after_a_way_down_a_runs_prompt_is_an_input_until_a_message_carries_it(
    empty_database: str, *, has_answer: bool
) -> None:
    def fill_one(connection: Connection) -> None:
        run = new_run(connection, prompt="grüße", user_id="ada")
        if has_answer:
            add_messages(connection, run.id, [Message(0, {}, ())], NOW)

    migrate.upgrade(empty_database)
    async with Database(empty_database).opened() as database:
        await database.write(fill_one)
    assert not Place(empty_database).dump()["inputs"]
    migrate.downgrade(empty_database, "0010")
    with closing(plain_engine(empty_database).connect()) as connection:
        (row,) = connection.execute(select(*inputs.c)).mappings()
    found = [row[name] for name in ("position", "prompt", "images", "consumed", "created_by")]
    assert found == [0, "grüße", None, has_answer, "ada"]


async def test_after_a_way_down_calls_that_wait_are_for_anybody_to_decide_with_one_voice(empty_database: str) -> None:
    migrate.upgrade(empty_database)
    rows = await filled(empty_database)
    assert [deciders for deciders, _ in await who_decides(empty_database)] == [DECIDERS, DECIDERS]
    assert [votes for _, votes in await who_decides(empty_database)] == [(VOTE,), (VOTE,)]
    migrate.downgrade(empty_database, "0004")
    assert not {"audit", "tokens", "console_sessions", "login_links"} & tables(empty_database)
    migrate.upgrade(empty_database)
    assert await who_decides(empty_database) == [(None, ()), (None, ())]
    forgotten = [{**row, "deciders": None, "votes": None, "remember": None} for row in rows["requirements"]]
    gone = (
        *("audit", "tokens", "console_sessions", "login_links", "grants", "notification_channels", "notifications"),
        *("audit_heads", "user_erasures"),
    )
    emptied = {name: list[Any]() for name in gone}
    carried = [{**row, "consumed": True} for row in rows["inputs"]]
    kept = {**rows, "requirements": forgotten, "inputs": carried, **emptied}
    assert Place(empty_database).dump() == kept


async def who_decides(url: str) -> list[tuple[Deciders | None, tuple[Vote, ...]]]:
    """Return who may decide each call that waits, and who has spoken."""

    def unit(connection: Connection) -> list[tuple[Deciders | None, tuple[Vote, ...]]]:
        return [(item.deciders, item.votes) for key in (1, 2) for item in list_requirements(connection, key)]

    async with Database(url).opened() as database:
        return await database.read(unit)


async def test_a_downgrade_to_base_leaves_no_table_and_the_way_up_is_open(empty_database: str) -> None:
    migrate.upgrade(empty_database)
    await filled(empty_database)
    migrate.downgrade(empty_database, "base")
    assert tables(empty_database) <= {"alembic_version", "sqlite_sequence"}
    assert migrate.current(empty_database).revision is None
    migrate.upgrade(empty_database)
    migrate.check(empty_database)
    await filled(empty_database)


async def test_foreign_keys_hold(database_url: str) -> None:
    rows = await filled(database_url)
    children = ["events", "inputs", "messages", "requirements", "tool_calls"]
    async with Database(database_url).opened() as database:
        for parent in ("organizations", "sessions"):
            with pytest.raises(Collision):
                await database.write(deleting(parent))
        for child in children:
            with pytest.raises(Collision):
                await database.write(orphaning(child))
        assert Place(database_url).dump() == rows
        await database.write(deleting("runs"))
    counted = Place(database_url).counted()
    assert {name: counted[name] for name in (*children, "runs")} == dict.fromkeys((*children, "runs"), 0)


def deleting(table: str) -> Callable[[Connection], None]:
    def unit(connection: Connection) -> None:
        connection.execute(metadata.tables[table].delete())

    return unit


def orphaning(table: str) -> Callable[[Connection], None]:
    def unit(connection: Connection) -> None:
        connection.execute(metadata.tables[table].update().values(run_key=4711))

    return unit


async def test_rebuilding_a_parent_table_keeps_the_rows_of_its_children(
    database_url: str, next_revision: NextMigration
) -> None:
    rows = await filled(database_url)
    next_revision(
        'with op.batch_alter_table("runs", recreate="always") as runs:\n'
        '        runs.alter_column("summary", type_=sa.String(100), existing_type=sa.Text())'
    )
    # On PostgreSQL a table is altered in place.
    if not database_url.startswith("sqlite"):
        next_revision('op.alter_column("runs", "summary", type_=sa.String(100), existing_type=sa.Text())')
    migrate.upgrade(database_url)
    assert migrate.current(database_url).revision == "9999"
    assert Place(database_url).dump() == rows


async def test_a_migration_that_fails_half_way_leaves_everything_as_it_was(
    database_url: str, next_revision: NextMigration
) -> None:
    rows = await filled(database_url)
    before = tables(database_url)
    next_revision(
        'op.create_table("half", sa.Column("id", sa.Integer()))\n'
        '    op.execute("DELETE FROM events")\n'
        '    op.execute("DELETE FROM no_such_table")'
    )
    with pytest.raises(Exception, match="no_such_table"):
        migrate.upgrade(database_url)
    assert migrate.current(database_url).revision == SCHEMA_REVISION
    assert tables(database_url) == before
    assert Place(database_url).dump() == rows


async def test_on_sqlite_a_migration_that_orphans_rows_is_undone(
    tmp_path: Path, sqlite_template: Path, next_revision: NextMigration
) -> None:
    url = sqlite_url(tmp_path / "orphans.db")
    shutil.copyfile(sqlite_template, tmp_path / "orphans.db")
    rows = await filled(url)
    next_revision('op.execute("DELETE FROM runs WHERE id = 1")')
    with pytest.raises(RuntimeError, match="point to nothing"):
        migrate.upgrade(url)
    assert migrate.current(url).revision == SCHEMA_REVISION
    assert Place(url).dump() == rows


def test_a_migration_does_not_wait_for_ever_for_an_open_transaction(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNPAUSE_LOCK_TIMEOUT_SECONDS", "0.1")
    monkeypatch.setattr(migration_locks, "ATTEMPTS", 2)
    with closing(plain_engine(postgres_url).connect()) as connection:
        connection.execute(text("SELECT count(*) FROM organizations"))
        with pytest.raises(DatabaseInUse, match="not changed further: another transaction holds one of its tables"):
            migrate.downgrade(postgres_url, "0015")
    assert migrate.current(postgres_url).revision == "0016", "what was done before stays"
    migrate.downgrade(postgres_url, "0013")
    migrate.upgrade(postgres_url)
