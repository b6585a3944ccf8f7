"""With many rows both databases answer from indexes: what waits for humans costs those nothing that go on."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg import RawCursor
from sqlalchemy import Connection, Engine, event, inspect, text

from tests.support.backlog import add_backlog
from tests.support.databases import PostgresServer, new_run, sqlite_url
from tests.support.full import IS_FULL
from unpause.domain.approvals import ApprovalFilter
from unpause.domain.inbox import InboxFilter, Whose
from unpause.domain.nodes import ServedAgents
from unpause.domain.paging import Page
from unpause.domain.principal import Principal, Visibility
from unpause.domain.requirements import ToolAnswer
from unpause.domain.run_search import RunSearch
from unpause.domain.runs import RunFilter, RunRef, RunSelection, RunStatus
from unpause.domain.sessions import NewSession, SessionFilter
from unpause.domain.transitions import Trigger
from unpause.errors import RunNotFound
from unpause.services.commands import ContinueRun
from unpause.services.continue_run import ContinueHandler
from unpause.services.deadlines import bring_up_to_date
from unpause.services.inbox import viewer_of
from unpause.store.approvals import list_approvals
from unpause.store.deliveries import list_due, until_due
from unpause.store.engine.pipeline import Pipeline
from unpause.store.engine.schema import plain_engine
from unpause.store.engine.statements import DRIVER
from unpause.store.events import list_events
from unpause.store.idempotency import has_requests
from unpause.store.inbox import list_changed, list_earlier, list_open
from unpause.store.nodes import list_unserved
from unpause.store.notifications import until_due as until_notification
from unpause.store.overview import (
    count_unfinished,
    find_oldest_waiting,
    list_decided,
    list_failing_webhooks,
    list_hours,
)
from unpause.store.requirements import has_due_runs, list_due_runs
from unpause.store.run_lists import count_runs, list_runs, list_session_runs
from unpause.store.run_queue import has_room, last_sequences, list_ready, list_stale, renew_leases
from unpause.store.run_search import search_runs
from unpause.store.runs import find_by_key, get_run, transition
from unpause.store.sessions import delete_session, ensure_session, find_session, list_conversation, list_sessions
from unpause.store.tables import metadata
from unpause.store.webhooks import list_targets

# Enough for PostgreSQL to prefer an index; a fifth as many wait for another node.
_ROWS = 100_000 if IS_FULL else 40_000
_NOW = datetime(2026, 6, 1, tzinfo=UTC)
_LEASE = timedelta(seconds=10)
# What holds many rows here.
_SCANNED = re.compile(
    r"Seq Scan on (runs|requirements|tool_calls|events|messages|inputs|sessions|webhook_deliveries)\b"
)

_SCANNED_BY_SQLITE = re.compile(
    r"SCAN (runs|requirements|tool_calls|events|messages|inputs|sessions|webhook_deliveries|approvals)\b(?! USING)"
)
# Of the rows of an organization all are read, and most thrown away.
_ALL_OF_ONE = re.compile(r"SEARCH runs USING (COVERING )?INDEX \w+ \(organization_id=\?\)")
SERVED = ServedAgents(frozenset({"scripted", "other"}), "setup-commands")

_ELSEWHERE = """
    INSERT INTO runs (run_id, organization_id, session_key, session_id, agent_id, user_id, status, source_type, prompt,
                      created_at, updated_at)
    SELECT 'elsewhere-' || n, 1, 1, 'session-1', 'elsewhere', 'user ' || n % 1000, 'PENDING', 'API', 'hello',
           now(), now()
    FROM generate_series(1, :rows) n
"""
_KEYS = """
    INSERT INTO idempotency_keys (organization_id, key, fingerprint, run_key, created_at)
    SELECT 1, 'key ' || n, 'f', n, now() FROM generate_series(1, 20000) n
"""

Use = Callable[[Connection], object]


@pytest.fixture(scope="module")
def engine(postgres: PostgresServer) -> Iterator[Engine]:
    """Yield an engine on a database with a backlog, a few runs of every status, and many that wait for another node."""
    with postgres.migrated_database() as url:
        engine = plain_engine(url)
        with engine.begin() as connection:
            # Foreign keys are not checked: that takes most of the time.
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            add_backlog(connection, _ROWS)
            for status in RunStatus:
                new_run(connection, status, lease_expires_at=_NOW - timedelta(days=1))
            connection.execute(text(_ELSEWHERE), {"rows": _ROWS // 5})
            connection.execute(text(_KEYS))
            connection.execute(
                text(
                    "INSERT INTO webhook_deliveries (id, organization_id, url, payload, next_attempt_at, created_at)"
                    " SELECT 'm' || n, 1, 'https://example.invalid', '{}',"
                    " CASE WHEN n % 1000 = 0 THEN now() END, now() FROM generate_series(1, 20000) n"
                )
            )
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
        yield engine
        engine.dispose()


@pytest.fixture(scope="module")
def sqlite_engine(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Yield an engine on a file with a backlog. Without statistics, SQLite plans alike for few rows and for many."""
    file = tmp_path_factory.mktemp("plans") / "plans.db"
    shutil.copyfile(sqlite_template, file)
    engine = plain_engine(sqlite_url(file))
    with engine.begin() as connection:
        add_backlog(connection, 1000)
        for status in RunStatus:
            new_run(connection, status, lease_expires_at=_NOW - timedelta(days=1))
    yield engine
    engine.dispose()


def claim(connection: Connection) -> object:
    return transition(connection, _ROWS + 1, Trigger.CLAIM, changes={"updated_at": _NOW})


def create(connection: Connection) -> object:
    return ensure_session(connection, ADA, NewSession("session-500", "scripted"), _NOW, max_unfinished=1_000_000)


def continue_run(connection: Connection) -> object:
    command = ContinueRun((ToolAnswer("call-500", confirmed=True),))
    run = get_run(connection, Visibility(1), RunRef(id=500), locked=True)
    locked = bring_up_to_date(connection, run, _NOW)
    return ContinueHandler(connection, run, locked.requirements, Principal(1, "ada"), command, _NOW).apply()


def list_targets_of_one(connection: Connection) -> object:
    return list_targets(connection, get_run(connection, Visibility(1), RunRef(id=500)))


def list_own_runs(connection: Connection) -> object:
    return list_runs(connection, Visibility(1, "ada"), RunSelection(), Page(40, offset=20))[0]


def search(connection: Connection, **filters: object) -> object:
    return search_runs(connection, Visibility(1), None, RunSearch(**filters))  # type: ignore[arg-type] # its fields


def search_own(connection: Connection) -> object:
    return search_runs(connection, Visibility(1, "ada"), frozenset({"scripted"}), RunSearch())


def delete_one_session(connection: Connection) -> object:
    session = find_session(connection, Visibility(1), "session-500")
    assert session is not None
    delete_session(connection, session)
    return session


def list_an_inbox(principal: Principal, whose: Whose = Whose.MINE) -> Use:
    return lambda connection: list_open(connection, viewer_of(principal), InboxFilter(whose=whose), _NOW, None, 50)


ADA = Principal(1, "ada")
NAMED = Principal(1, subject="ada", scopes=frozenset({"agents:other:run", "ops:approve"}), is_isolated=True)


USES: dict[str, Use] = {
    "list an inbox": list_an_inbox(ADA),
    "list an inbox of few": list_an_inbox(NAMED),
    "look for a request by the beginning of its id": lambda connection: list_open(
        connection, viewer_of(NAMED), InboxFilter(Whose.ALL, id_prefix="0123"), _NOW, None, 50
    ),
    "list what changed in an inbox": lambda connection: list_changed(connection, 1, _NOW, None, 500),
    "list earlier decisions": lambda connection: list_earlier(
        connection, list_open(connection, viewer_of(ADA), InboxFilter(), _NOW, None, 1)[0], viewer_of(ADA), 5
    ),
    "look for runs that are ready": lambda connection: list_ready(connection, 64, 10, SERVED),
    "look whether there is room": lambda connection: has_room(connection, 1, 10),
    "create": create,
    "claim": claim,
    "what a claim loads": lambda connection: list_conversation(connection, 500, 500, 10),
    "continue": continue_run,
    "look for stale leases": lambda connection: list_stale(connection, _NOW, 500, timedelta(minutes=10)),
    "renew leases": lambda connection: renew_leases(connection, [(500, 1), (501, 1)], _LEASE, _NOW),
    "renew one lease": lambda connection: renew_leases(connection, [(500, 1)], _LEASE, _NOW),
    "look for pauses that are due": lambda connection: list_due_runs(connection, _NOW),
    "look whether a pause is due": lambda connection: has_due_runs(connection, _NOW),
    "look whether a webhook is due": lambda connection: until_due(connection, _NOW),
    "look whether a notification is due": lambda connection: until_notification(connection, _NOW),
    "look whether a key is old": lambda connection: has_requests(connection, _NOW),
    "poll logs": lambda connection: last_sequences(connection, range(1, 65)),
    "read a log": lambda connection: list_events(connection, 500, 1, 500),
    "look for webhooks that are due": lambda connection: list_due(connection, _NOW, 64, []),
    "who hears of a run": list_targets_of_one,
    "find a run": lambda connection: find_by_key(connection, 500, locked=True),
    "find a run by its UUID": lambda connection: get_run(connection, Visibility(1), RunRef(run_id="no such run")),
    "list the runs of a session": lambda connection: list_session_runs(connection, 500, RunFilter(), limit=20),
    "list sessions": lambda connection: list_sessions(connection, Visibility(1), SessionFilter(), Page(20))[0],
    "list sessions that were used last": lambda connection: list_sessions(
        connection, Visibility(1), SessionFilter(sort_by="updated_at"), Page(20)
    )[0],
    "list an organization's runs": lambda connection: list_runs(
        connection, Visibility(1), RunSelection(), Page(40, offset=20)
    )[0],
    "count the runs of a month": lambda connection: count_runs(connection, 1, _NOW),
    "look which agents nobody serves": lambda connection: list_unserved(connection, SERVED.names),
    "list a user's runs": list_own_runs,
    "list a user's sessions": lambda connection: list_sessions(
        connection, Visibility(1, "ada"), SessionFilter(), Page(20)
    )[0],
    "list a user's approvals": lambda connection: list_approvals(
        connection, Visibility(1, "ada"), ApprovalFilter(), Page(20)
    ),
    "delete a session": delete_one_session,
    "search runs": search,
    "search runs by status": lambda connection: search(connection, statuses=frozenset({RunStatus.ERROR})),
    "search runs that are pending": lambda connection: search(connection, statuses=frozenset({RunStatus.PENDING})),
    "search runs by statuses": lambda connection: search(connection, statuses=frozenset(RunStatus)),
    "search runs of an agent": lambda connection: search(connection, agent_id="scripted"),
    "search runs of a user": lambda connection: search(connection, user_id="ada"),
    "search runs of a session": lambda connection: search(connection, session_id="session-500"),
    "search runs of a day": lambda connection: search(connection, since=_NOW, until=_NOW + timedelta(days=1)),
    "search runs for a text": lambda connection: search(connection, text="no such text"),
    "search runs for a text and statuses": lambda connection: search(
        connection, text="no such text", statuses=frozenset({RunStatus.ERROR, RunStatus.CANCELLED})
    ),
    "search runs for an id": lambda connection: search(connection, text="00000000-0000-4000-8000-000000000000"),
    "search one's own runs": search_own,
    "count what has not ended": lambda connection: count_unfinished(connection, Visibility(1)),
    "count the runs of each hour": lambda connection: list_hours(connection, Visibility(1), _NOW),
    "look who has waited longest": lambda connection: find_oldest_waiting(connection, Visibility(1)),
    "look what was decided": lambda connection: list_decided(connection, Visibility(1), _NOW),
    "look which webhooks fail": lambda connection: list_failing_webhooks(connection, 1, _NOW),
    "list approvals": lambda connection: list_approvals(connection, Visibility(1), ApprovalFilter(), Page(20)),
}


@pytest.mark.parametrize("use", USES)
def test_no_large_table_is_read_from_end_to_end(engine: Engine, use: str) -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        # What other tests have changed and rolled back makes an index look more expensive than it is.
        connection.execute(text("VACUUM runs"))
    with engine.connect() as connection:
        for statement, plan in plans_of(connection, USES[use]):
            if "count(" in statement and use.startswith("list "):
                # How many there are in all, which a page says: that is counted.
                continue
            assert not _SCANNED.search(plan), f"{statement}\n\n{plan}"
        connection.rollback()


def test_no_large_table_is_read_from_end_to_end_by_a_plan_that_is_kept_for_all_parameters(engine: Engine) -> None:
    with engine.connect() as connection:
        plans = connection.info[DRIVER] = GenericPlans()
        try:
            for use in USES.values():
                with suppress(RunNotFound):
                    use(connection)
                connection.rollback()
        finally:
            del connection.info[DRIVER]
    assert len(plans.found) > len(USES) / 4
    for statement, plan in plans.found:
        assert not _SCANNED.search(plan), f"{statement}\n\n{plan}"


@pytest.mark.parametrize("use", USES)
def test_on_sqlite_no_large_table_is_read_from_end_to_end(sqlite_engine: Engine, use: str) -> None:
    if use in {"look for stale leases", "renew leases", "renew one lease"}:
        # One process owns the file: nobody has leases there.
        return
    with sqlite_engine.connect() as connection:
        for statement, plan in plans_of(connection, USES[use]):
            if "count(" in statement and use.startswith("list "):
                continue
            assert not _SCANNED_BY_SQLITE.search(plan), f"{statement}\n\n{plan}"
        connection.rollback()


@pytest.mark.parametrize(
    "use", ["create", "look whether there is room", "count what has not ended", "search runs that are pending"]
)
def test_on_sqlite_runs_of_a_status_are_found_without_reading_all_of_their_organization(
    sqlite_engine: Engine, use: str
) -> None:
    # A create counts them in the transaction that all other writes wait for: it took longer with each run there was.
    with sqlite_engine.connect() as connection:
        for statement, plan in plans_of(connection, USES[use]):
            assert not _ALL_OF_ONE.search(plan), f"{statement}\n\n{plan}"
        connection.rollback()


@pytest.mark.parametrize("whose", Whose)
def test_a_page_of_an_inbox_is_one_query_that_stops_at_its_end(
    engine: Engine, sqlite_engine: Engine, whose: Whose
) -> None:
    for each in (engine, sqlite_engine):
        with each.connect() as connection:
            [(_, plan)] = plans_of(connection, list_an_inbox(ADA, whose))
        # In the order of the index: nothing is read, sorted and thrown away.
        assert "ix_requirements_open" in plan
        assert not re.search("Sort|TEMP B-TREE", plan), plan


def test_what_refers_to_a_run_is_found_by_an_index_when_that_is_deleted(engine: Engine, sqlite_engine: Engine) -> None:
    # Foreign keys look for these rows themselves, in plans that nobody shows.
    for each in (engine, sqlite_engine):
        found = inspect(each)
        for table in metadata.tables.values():
            columns = [key.parent.name for key in table.foreign_keys if key.column.table.name in {"runs", "sessions"}]
            indexed = [index["column_names"][0] for index in found.get_indexes(table.name)]
            indexed += [found.get_pk_constraint(table.name)["constrained_columns"][0]]
            indexed += [unique["column_names"][0] for unique in found.get_unique_constraints(table.name)]
            assert set(columns) <= set(indexed), table.name


def test_few_rows_are_read_for_a_nodes_next_run_though_many_wait_for_another_node(engine: Engine) -> None:
    def look(connection: Connection) -> object:
        return list_ready(connection, 64, 10, SERVED)

    with engine.connect() as connection:
        for statement, plan in plans_of(connection, look):
            # Whatever is looked up in the index is not then thrown away row by row.
            assert not re.search(r"Filter: .*agent_id", plan), f"{statement}\n\n{plan}"
        assert len(look(connection)) == 1  # type: ignore[arg-type] # a list


class GenericPlans:
    """A driver that executes prepared statements and asks for the plans that PostgreSQL may keep for them."""

    dialect = Pipeline.dialect

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def fetch(self, connection: Connection, text: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Execute it and return its rows."""
        driver: Any = connection.connection.driver_connection
        if text.startswith(("SELECT", "UPDATE", "DELETE", "WITH", "INSERT")):
            lines = driver.execute(f"EXPLAIN (GENERIC_PLAN) {text}").fetchall()
            self.found.append((text, "\n".join(line for (line,) in lines)))
        cursor = RawCursor(driver).execute(text, parameters)
        return cursor.fetchall() if cursor.description else []

    def send(self, connection: Connection, text: str, parameters: Sequence[Sequence[Any]]) -> None:
        """Execute it for each of the parameters."""
        for each in parameters:
            self.fetch(connection, text, each)

    def flush(self, connection: Connection) -> None:
        """Nothing was left to execute."""


def plans_of(connection: Connection, use: Use) -> list[tuple[str, str]]:
    """Return the statements that a use executes, each with its plan at that moment."""
    found: list[tuple[str, str]] = []

    def explain(*args: Any) -> None:  # noqa: ANN401 - as SQLAlchemy gives them
        _, cursor, statement, parameters, _, many = args
        if many or not statement.lstrip().upper().startswith(("SELECT", "UPDATE", "DELETE", "WITH", "INSERT")):
            return
        explaining = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
        with closing(cursor.connection.cursor()) as other:
            other.execute(f"{explaining} {statement}", parameters)
            found.append((statement, "\n".join(str(line[-1]) for line in other.fetchall())))

    event.listen(connection, "before_cursor_execute", explain)
    try:
        use(connection)
    except LookupError:
        raise
    except Exception as error:
        if type(error).__name__ != "RunNotFound":
            raise
    finally:
        event.remove(connection, "before_cursor_execute", explain)
    assert found
    return found
