"""Lists of runs, of a run's events and of users, on real rows of both databases."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection, insert

from tests.support.databases import NOW, new_run
from unpause.domain.events import Event, EventSelection, EventType
from unpause.domain.paging import Page
from unpause.domain.principal import Visibility
from unpause.domain.runs import RunSelection
from unpause.store.engine.database import Database
from unpause.store.events import add_events, list_chosen_events
from unpause.store.run_lists import count_runs, list_runs
from unpause.store.tables import organizations, users
from unpause.store.users import (
    find_first_user,
    find_organization,
    find_user,
    find_user_named,
    list_users,
    lock_organization,
)

_SAID = EventType.MODEL_REQUEST_COMPLETED


async def test_only_the_chosen_events_are_listed_and_counted(database_url: str) -> None:
    events = (
        Event(EventType.RUN_STARTED, NOW, {}),
        Event(_SAID, NOW, {"said": "first"}),
        Event(_SAID, NOW, {"model": "said"}),
        Event(EventType.CONTENT_DELTA, NOW, {"content": "x", "said": "no"}),
        Event(_SAID, NOW, {"said": None}),
        Event(_SAID, NOW, {"said": ""}),
        Event(EventType.RUN_COMPLETED, NOW, {"content": "done"}),
    )
    types = {EventType.RUN_STARTED: None, _SAID: "said", EventType.RUN_COMPLETED: None}

    def unit(connection: Connection) -> None:
        run, other = new_run(connection), new_run(connection)
        added = add_events(connection, run.id, events, 7)
        add_events(connection, other.id, events, 7)
        shown = [added[0], added[1], added[5], added[6]]
        for selection, expected in (
            (EventSelection(types), shown),
            (EventSelection(types, newest_first=True), shown[::-1]),
            (EventSelection(types, Page(2, offset=1)), shown[1:3]),
            (EventSelection(types, Page(2, offset=1), newest_first=True), shown[::-1][1:3]),
            (EventSelection(types, Page(2, offset=4)), []),
            (EventSelection(types, Page(2, offset=10**40)), []),
        ):
            assert list_chosen_events(connection, run.id, selection) == (expected, 4)
        assert list_chosen_events(connection, run.id, EventSelection({EventType.RUN_PAUSED: None})) == ([], 0)

    async with Database(database_url).opened() as database:
        await database.write(unit)


async def test_runs_are_listed_by_source_and_user_and_only_of_the_organization(database_url: str) -> None:
    def unit(connection: Connection) -> None:
        connection.execute(insert(organizations).values(name="other", created_at=NOW))
        ada = new_run(connection, user_id="ada")
        nobody = new_run(connection, user_id=None)
        prepared = new_run(connection, user_id="ada", source_type="SETUP_COMMANDS")
        new_run(connection, organization_id=2, user_id="ada")

        def keys(selection: RunSelection, part: Page | None = None) -> tuple[list[int], int]:
            found, total = list_runs(connection, Visibility(1), selection, part or Page())
            return [run.id for run in found], total

        assert keys(RunSelection()) == ([prepared.id, nobody.id, ada.id], 3)
        assert keys(RunSelection(), Page(1, offset=1)) == ([nobody.id], 3)
        assert keys(RunSelection(), Page(1, offset=2**70)) == ([], 3)
        assert keys(RunSelection("API")) == ([nobody.id, ada.id], 2)
        assert keys(RunSelection(user_id="ada")) == ([prepared.id, ada.id], 2)
        assert keys(RunSelection("API", "ada", or_without_user=True)) == ([nobody.id, ada.id], 2)
        assert keys(RunSelection(user_id="grace", or_without_user=True)) == ([nobody.id], 1)
        # Nobody has an empty name: it hides everything, and not nothing.
        assert list_runs(connection, Visibility(1, ""), RunSelection(), Page()) == ([], 0)
        assert keys(RunSelection(user_id="grace")) == ([], 0)

    async with Database(database_url).opened() as database:
        await database.write(unit)


async def test_runs_since_a_moment_are_counted_with_that_moment(database_url: str) -> None:
    def unit(connection: Connection) -> None:
        lock_organization(connection, 1)
        connection.execute(insert(organizations).values(name="other", created_at=NOW))
        for minutes in (0, 1, 2):
            new_run(connection, created_at=NOW + timedelta(minutes=minutes))
        new_run(connection, organization_id=2)
        assert count_runs(connection, 1, NOW) == 3
        assert count_runs(connection, 1, NOW + timedelta(minutes=1)) == 2
        assert count_runs(connection, 1, NOW + timedelta(minutes=3)) == 0

    async with Database(database_url).opened() as database:
        await database.write(unit)


async def test_users_are_found_only_in_their_organization(database_url: str) -> None:
    def unit(connection: Connection) -> None:
        connection.execute(insert(organizations).values(name="other", created_at=NOW))
        for organization_id, name in ((1, "ada"), (2, "ada"), (2, "grace")):
            row = {"organization_id": organization_id, "name": name, "role": "MEMBER", "created_at": NOW}
            connection.execute(insert(users), row)
        first = find_first_user(connection, 1)
        ada = find_user_named(connection, 1, "ada")
        other = find_user_named(connection, 2, "ada")
        assert first is not None
        assert ada is not None
        assert other is not None
        assert (first.name, first.role) == ("local", "ADMIN")
        assert (ada.organization_id, other.organization_id, find_first_user(connection, 2)) == (1, 2, other)
        assert find_user(connection, 1, ada.id) == ada
        assert [find_user(connection, 1, key) for key in (other.id, 2**63, -1)] == [None] * 3
        assert find_user_named(connection, 1, "grace") is None
        assert list_users(connection, 1, Page()) == ([first, ada], 2)
        assert list_users(connection, 1, Page(5, offset=1)) == ([ada], 2)
        assert list_users(connection, 1, Page(5, offset=2**64)) == ([], 2)
        assert find_first_user(connection, 3) is None
        assert find_organization(connection, 3) is None
        found = find_organization(connection, 2)
        assert found is not None
        assert found.name == "other"

    async with Database(database_url).opened() as database:
        await database.write(unit)
