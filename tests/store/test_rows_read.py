"""What a query reads does not grow with what an organization has stored: both databases go straight to what is asked.

A plan that names an index says little: one of all runs of the organization is as bad as none. So it is counted: on
SQLite the steps of its machine for a small and a large history, on PostgreSQL the rows that a plan has read.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from tests.support.databases import PostgresServer, sqlite_url
from tests.support.history import add_history
from unpause.domain.approvals import ApprovalFilter
from unpause.domain.audit import AuditAction, AuditFilter
from unpause.domain.grants import GrantFilter, GrantViewer
from unpause.domain.inbox import InboxFilter, Whose
from unpause.domain.nodes import ServedAgents
from unpause.domain.paging import Page
from unpause.domain.principal import Principal, Visibility
from unpause.domain.retention import RetentionKind, RetentionScope
from unpause.domain.run_search import RunSearch
from unpause.domain.runs import RunStatus
from unpause.domain.sessions import NewSession
from unpause.services.inbox import viewer_of
from unpause.store import inbox, run_search
from unpause.store.approvals import list_approvals
from unpause.store.audit import list_entries
from unpause.store.audit_chain import list_unsealed_organizations
from unpause.store.deliveries import list_waiting_targets
from unpause.store.engine.schema import plain_engine
from unpause.store.grants import list_grants
from unpause.store.inbox import list_earlier, list_open
from unpause.store.notifications import list_due_channels
from unpause.store.retention import (
    count_due,
    delete_empty_sessions,
    delete_ended_runs,
    delete_finished_messages,
    is_due,
)
from unpause.store.run_queue import has_pending, list_ready
from unpause.store.sessions import ensure_session

_FEW, _MANY = 2_000, 8_000
_ROWS = 20_000
# A page of a search looks at so many runs here.
_EXAMINED = 300
# Rows that a plan of PostgreSQL may read: some of those of a page are read several times.
_MOST_ROWS = 2_000
_BEFORE_ALL = datetime(2025, 1, 1, tzinfo=UTC)
_AFTER_ALL = datetime(2027, 1, 1, tzinfo=UTC)
_EARLY = datetime(2026, 1, 1, 0, 1, tzinfo=UTC)
_NOON = datetime(2026, 1, 1, 0, 10, tzinfo=UTC)
_VIEWER = GrantViewer(organization_id=1, user_id=None, agents=None, session_id=None, decider=None)
_ADA = Principal(1, "ada")
_ALL = Visibility(1)

Use = Callable[[Connection], object]


def _search(visibility: Visibility = _ALL, agents: frozenset[str] | None = None, **search: Any) -> Use:  # noqa: ANN401 - its fields
    return lambda connection: run_search.search_runs(connection, visibility, agents, RunSearch(**search))


def _inbox(**selection: Any) -> Use:  # noqa: ANN401 - its fields
    return lambda connection: list_open(connection, viewer_of(_ADA), InboxFilter(**selection), _NOON, None, 20)


def _due(kind: RetentionKind, organization_id: int | None, before: datetime) -> Use:
    return lambda connection: is_due(connection, kind, RetentionScope(organization_id), before)


_COMPLETED = frozenset({RunStatus.COMPLETED})
_SEARCHES: dict[str, Use] = {
    "any": _search(),
    "a session": _search(session_id="session-7"),
    "no session": _search(session_id="nope"),
    "a session and a status": _search(session_id="session-7", statuses=_COMPLETED),
    "a session and a user": _search(session_id="session-7", user_id="nobody"),
    "a session and a time": _search(session_id="session-7", since=_NOON),
    "an agent": _search(agent_id="agent-3"),
    "an agent without runs": _search(agent_id="nobody"),
    "an agent without runs and a status": _search(agent_id="nobody", statuses=_COMPLETED),
    "an agent without runs, since long ago": _search(agent_id="nobody", since=_BEFORE_ALL),
    "agents without runs": _search(agents=frozenset({"nobody", "somebody"})),
    "a user": _search(user_id="user-3"),
    "a user and a status": _search(user_id="user-3", statuses=_COMPLETED),
    "a user and the status of few": _search(user_id="nobody", statuses=frozenset({RunStatus.PAUSED})),
    "one's own": _search(Visibility(1, "user-3")),
    "one's own of a status": _search(Visibility(1, "nobody"), statuses=_COMPLETED),
    "a status": _search(statuses=frozenset({RunStatus.CANCELLED})),
    "statuses": _search(statuses=frozenset(RunStatus)),
    "some minutes": _search(since=_NOON, until=_NOON + timedelta(minutes=3)),
    "some minutes and an agent": _search(since=_NOON, until=_NOON + timedelta(minutes=3), agent_id="nobody"),
    "since long ago": _search(since=_BEFORE_ALL),
    "since later": _search(since=_AFTER_ALL),
    "until earlier": _search(until=_BEFORE_ALL),
    "a text": _search(text="no such text"),
    "a text and a session": _search(text="no such text", session_id="session-7"),
    "a number": _search(text="77"),
    "an id": _search(text="00000000-0000-4000-8000-000000000000", statuses=frozenset(RunStatus)),
    "an earlier page": _search(before=500),
}
_USES: dict[str, Use] = {
    **{f"search for {what}": use for what, use in _SEARCHES.items()},
    "find a request by the beginning of its id": _inbox(whose=Whose.ALL, id_prefix="0123"),
    "find a request of mine by the beginning of its id": _inbox(id_prefix="0123"),
    "list earlier decisions": lambda connection: list_earlier(
        connection, list_open(connection, viewer_of(_ADA), InboxFilter(), _NOON, None, 1)[0], viewer_of(_ADA), 5
    ),
    "list approvals": lambda connection: list_approvals(connection, Visibility(1), ApprovalFilter(), Page(20)),
    "list the approvals of a run": lambda connection: list_approvals(
        connection, Visibility(1), ApprovalFilter(run_id="run-7"), Page(20)
    ),
    "list the trail of a run": lambda connection: list_entries(connection, 1, AuditFilter(run_id="run-7"), Page(20)),
    "list some of the trail of a run": lambda connection: list_entries(
        connection, 1, AuditFilter(run_id="run-7", action=AuditAction.ANSWERED), Page(20)
    ),
    "list grants": lambda connection: list_grants(connection, _VIEWER, GrantFilter(), _NOON, limit=20, after=None),
    "look what is to be sealed": list_unsealed_organizations,
    "look which messages are due": lambda connection: list_due_channels(connection, _NOON, 64, 10, [], []),
    "look where messages wait for": lambda connection: list_waiting_targets(connection, 1),
    "look whether runs wait": has_pending,
    "look which runs are ready": lambda connection: list_ready(
        connection, 64, 10, ServedAgents(frozenset({"agent-3"}), None)
    ),
    "create": lambda connection: ensure_session(
        connection, _ADA, NewSession("session-7", "scripted"), _NOON, max_unfinished=1_000_000
    ),
    **{
        f"look whether {kind.name} are due of {organization or 'all'}": _due(kind, organization, _BEFORE_ALL)
        for kind in RetentionKind
        for organization in (None, 1)
    },
    "look whether runs of others are due": _due(RetentionKind.ENDED_RUNS, 2, _AFTER_ALL),
    "delete ended runs": lambda connection: delete_ended_runs(connection, _AFTER_ALL, 5, RetentionScope()),
    "delete ended runs of one": lambda connection: delete_ended_runs(connection, _AFTER_ALL, 5, RetentionScope(1)),
    "delete empty sessions": lambda connection: delete_empty_sessions(connection, _EARLY, 5, RetentionScope()),
    "delete messages": lambda connection: delete_finished_messages(connection, _AFTER_ALL, 5, RetentionScope()),
}
_WAIT = "UPDATE runs SET status = 'PENDING'"
# A list says how many there are in all: these are counted.
_COUNTS = {"list approvals"}


@pytest.fixture(autouse=True)
def _short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_search, "_MAX_EXAMINED", _EXAMINED)
    monkeypatch.setattr(inbox, "_NEWEST", _EXAMINED)


@pytest.fixture(scope="module")
def histories(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Engine]]:
    """Yield engines on two files, the second with four times as many runs as the first."""
    engines = []
    for count in (_FEW, _MANY):
        file = tmp_path_factory.mktemp("rows") / "rows.db"
        shutil.copyfile(sqlite_template, file)
        engines.append(plain_engine(sqlite_url(file)))
        with engines[-1].begin() as connection:
            add_history(connection, count)
    yield engines[0], engines[1]
    for engine in engines:
        engine.dispose()


@pytest.fixture(scope="module")
def history(postgres: PostgresServer) -> Iterator[Engine]:
    """Yield an engine on a PostgreSQL database with many runs."""
    with postgres.migrated_database() as url:
        engine = plain_engine(url)
        with engine.begin() as connection:
            # Foreign keys are not checked: that takes most of the time.
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            add_history(connection, _ROWS)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
        yield engine
        engine.dispose()


@pytest.mark.parametrize("use", _USES)
def test_on_sqlite_what_is_read_does_not_grow_with_the_history(histories: tuple[Engine, Engine], use: str) -> None:
    few, many = (_steps_of(engine, _USES[use], counts=use not in _COUNTS) for engine in histories)
    assert many <= 1.5 * few + 2_000, f"{few} steps of SQLite's machine, and {many} with four times as many runs"


@pytest.mark.parametrize("use", ["look whether runs wait", "look which runs are ready"])
def test_on_sqlite_a_look_at_the_queue_does_not_read_all_that_waits(histories: tuple[Engine, Engine], use: str) -> None:
    few, many = (_steps_of(engine, _USES[use], before=_WAIT) for engine in histories)
    assert many <= 1.5 * few + 2_000, f"{few} steps of SQLite's machine, and {many} with four times as many runs"


@pytest.mark.parametrize("before", [_BEFORE_ALL, _AFTER_ALL, _NOON])
def test_on_sqlite_entries_of_the_trail_that_are_due_are_counted_once_each(
    histories: tuple[Engine, Engine], before: datetime
) -> None:
    # Each was compared with all others: `unpause audit purge --dry-run` took hours.
    few, many = (_steps_of(engine, partial(_count_entries, before=before)) for engine in histories)
    assert many <= 5 * few + 2_000, f"{few} steps of SQLite's machine, and {many} with four times as many entries"


def _count_entries(connection: Connection, before: datetime) -> None:
    found = count_due(connection, RetentionKind.AUDIT, RetentionScope(), before)
    query = "SELECT count(*) FROM audit WHERE at < :before"
    stored = {"before": before.strftime("%Y-%m-%d %H:%M:%S.%f")}
    assert found == connection.execute(text(query), stored).scalar()


@pytest.mark.parametrize("use", _USES)
def test_on_postgresql_few_rows_are_read(history: Engine, use: str) -> None:
    for statement, plan, rows in _plans_of(history, _USES[use]):
        if use in _COUNTS and statement.startswith("SELECT count("):
            continue
        assert rows <= _MOST_ROWS, f"{rows} rows\n\n{statement}\n\n{json.dumps(plan, indent=1)}"


def _steps_of(engine: Engine, use: Use, *, counts: bool = True, before: str = "SELECT 1") -> int:
    """Return how many steps the machine of SQLite takes for a use, about; ``before`` is executed before it."""
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 10

    def measure(*args: Any) -> None:  # noqa: ANN401 - as SQLAlchemy gives them
        _, cursor, statement, _, _, _ = args
        is_measured = counts or not statement.startswith("SELECT count(")
        cursor.connection.set_progress_handler(count if is_measured else None, 10)

    with engine.connect() as connection:
        connection.execute(text(before))
        event.listen(connection, "before_cursor_execute", measure)
        use(connection)
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(None, 10)
        connection.rollback()
    return steps


def _plans_of(engine: Engine, use: Use) -> list[tuple[str, Mapping[str, Any], int]]:
    """Return the queries of a use, each with its plan and the rows that it reads of tables and indexes."""
    found: list[tuple[str, Mapping[str, Any], int]] = []

    def explain(*args: Any) -> None:  # noqa: ANN401 - as SQLAlchemy gives them
        _, cursor, statement, parameters, _, _ = args
        if statement.startswith(("SELECT", "WITH")):
            with closing(cursor.connection.cursor()) as other:
                other.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {statement}", parameters)
                ((plans,),) = other.fetchall()
                found.append((statement, plans[0]["Plan"], _rows(plans[0]["Plan"])))

    with engine.connect() as connection:
        event.listen(connection, "before_cursor_execute", explain)
        use(connection)
        connection.rollback()
    assert found or use is _USES["create"]
    return found


def _rows(plan: Mapping[str, Any]) -> int:
    below = sum(_rows(each) for each in plan.get("Plans", ()))
    if "Scan" not in plan["Node Type"]:
        return below
    read = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
    return below + int(read * plan["Actual Loops"])
