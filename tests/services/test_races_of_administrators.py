"""What an administrator removes, revokes or erases just as something else happens: each is done, whole and once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import Connection, Update, delete, select, update

from tests.support.databases import NOW, Place
from tests.support.pausing_driver import PausingDriver, need
from tests.support.runs import answer, look, start_and_follow
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import running
from unpause.auth import tokens as auth_tokens
from unpause.auth.tokens import NewToken, create_token, replace_token, revoke_token
from unpause.clock import SystemClock
from unpause.domain.deciders import Deciders, Vote
from unpause.domain.erasure import Erased
from unpause.domain.notifications import Channel, ChannelEvent
from unpause.domain.principal import Principal
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import RunStatus
from unpause.errors import ApprovalNotFound, InvalidInput, NotFound, RequirementNotFound
from unpause.notifications import service as notifications_service
from unpause.services import approvals, inbox_decisions, notification_outbox
from unpause.services.commands import DecideRequirement, ResolveApproval, Verb
from unpause.services.erasure import Erasure
from unpause.store.channels import add_channel, delete_channel
from unpause.store.engine.database import Database
from unpause.store.engine.schema import plain_connection
from unpause.store.erasure.names import Step, list_renames
from unpause.store.requirements import find_requirements, keep_votes
from unpause.store.tables import requirements, runs, tokens
from unpause.vault import Encrypted

# The order of locks is what is tested: on both databases.
pytestmark = pytest.mark.sql

ADMIN = Principal(1, "root", via="cli")
_CHANNEL = Channel(
    organization_id=1, kind="json", url=Encrypted("of nothing"), events=tuple(ChannelEvent), created_at=NOW
)


def within(url: str, unit: Callable[[Connection], Any]) -> Any:  # noqa: ANN401 - what the unit returns
    """Run the unit in a transaction of its own."""
    with plain_connection(url) as connection, connection.begin():
        return unit(connection)


class Meanwhile:
    """What another transaction does once, between two steps of ours, or where it ``waits`` for our end after it."""

    def __init__(self, work: Callable[[], Any], *, waits: bool = False) -> None:
        self._work = work
        self._seconds = 0.5 if waits else 30.0
        self._is_begun = False

    def after(self, monkeypatch: pytest.MonkeyPatch, place: object, name: str) -> None:
        """Begin after this function has returned for the first time."""
        step = getattr(place, name)

        def do_both(*args: object, **options: object) -> object:
            result = step(*args, **options)
            self.begin()
            return result

        monkeypatch.setattr(place, name, do_both)

    def begin(self) -> None:
        """Begin unless that was done, and wait for it."""
        if not self._is_begun:
            self._is_begun = True
            self._done = ThreadPoolExecutor(1).submit(self._work)
            wait([self._done], timeout=self._seconds)

    def result(self) -> Any:  # noqa: ANN401 - what the work returns
        """Return what came of it."""
        return self._done.result(timeout=30)


async def test_a_run_pauses_though_a_channel_that_is_to_tell_of_it_is_removed_at_that_moment(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = within(postgres_url, lambda connection: add_channel(connection, _CHANNEL))
    removal = Meanwhile(lambda: within(postgres_url, lambda connection: delete_channel(connection, key)), waits=True)
    removal.after(monkeypatch, notification_outbox, "list_valid_channels")
    async with running(tmp_path, drivers=[ScriptedDriver()], database_url=postgres_url) as application:
        view = await start_and_follow(application)
        assert view.run.status is RunStatus.PAUSED
        removal.result()
    rows = Place(postgres_url).dump()
    assert (rows["notification_channels"], rows["notifications"]) == ([], [])


async def test_a_channel_that_two_remove_at_once_is_removed_once(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = within(postgres_url, lambda connection: add_channel(connection, _CHANNEL))
    async with running(tmp_path, drivers=[ScriptedDriver()], database_url=postgres_url) as application:
        other = Meanwhile(lambda: within(postgres_url, lambda connection: delete_channel(connection, key)))
        other.after(monkeypatch, notifications_service, "find_channel")
        with pytest.raises(NotFound, match="Channel not found"):
            await application.channels.remove_channel(ADMIN, key)
        assert other.result() is True
    assert [row["action"] for row in Place(postgres_url).dump()["audit"]] == []


@pytest.mark.parametrize("keep_old", [timedelta(), timedelta(hours=1)], ids=["at once", "later"])
def test_a_token_that_is_revoked_as_it_is_rotated_has_no_successor(
    database_url: str, monkeypatch: pytest.MonkeyPatch, keep_old: timedelta
) -> None:
    new = NewToken(user_id="eve")
    old, _ = within(database_url, lambda connection: create_token(connection, new, ADMIN, NOW))
    revocation = Meanwhile(
        lambda: within(database_url, lambda connection: revoke_token(connection, old.id, ADMIN, NOW))
    )
    revocation.after(monkeypatch, auth_tokens, "find_token")

    with pytest.raises(InvalidInput, match="is revoked or expired"):
        within(database_url, lambda connection: replace_token(connection, old.id, ADMIN, NOW, keep_old))

    revocation.result()
    rows = Place(database_url).dump()
    assert [row["revoked_at"] for row in rows["tokens"]] == [NOW]
    assert [row["action"] for row in rows["audit"]] == ["token.created", "token.revoked"]


def test_a_token_that_two_rotate_at_once_has_one_successor(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    new = NewToken(user_id="eve")
    old, _ = within(database_url, lambda connection: create_token(connection, new, ADMIN, NOW))

    def rotate() -> str:
        unit = partial(replace_token, public=old.id, by=ADMIN, now=NOW, overlap=timedelta())
        return str(within(database_url, unit)[0].id)

    other = Meanwhile(rotate)
    other.after(monkeypatch, auth_tokens, "find_token")
    with pytest.raises(InvalidInput, match="is revoked or expired"):
        rotate()
    successor = other.result()
    rows = Place(database_url).dump()
    assert {row["id"] for row in rows["tokens"] if row["revoked_at"] is None} == {successor}
    assert sorted(row["action"] for row in rows["audit"]) == ["token.created", "token.created", "token.revoked"]


async def test_a_token_that_is_made_as_its_user_is_erased_ends_too(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = NewToken(user_id="eve")
    within(postgres_url, lambda connection: create_token(connection, new, ADMIN, NOW))

    def add_late() -> None:
        within(postgres_url, lambda connection: create_token(connection, new, ADMIN, NOW))

    async with Database(postgres_url).opened() as database:
        step = Connection.execute
        late = Meanwhile(add_late)

        def execute(connection: Connection, statement: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - SQLAlchemy's own
            done = step(connection, statement, *args, **options)
            if isinstance(statement, Update) and statement.table is tokens:
                late.begin()
            return done

        monkeypatch.setattr(Connection, "execute", execute)
        pseudonym = await Erasure(database, SystemClock(), ADMIN).erase("eve", cancels=False)
        late.result()
    rows = Place(postgres_url).dump()
    assert [(row["user_id"], row["revoked_at"] is None) for row in rows["tokens"]] == [(pseudonym, False)] * 2
    assert [row["action"] for row in rows["audit"]].count("token.revoked") == 2


async def voted_on(url: str, folder: Path, *names: str) -> str:
    """Have a call wait for three people, of whom these have confirmed; return its requirement's id."""
    driver = PausingDriver((need("c", deciders=Deciders(quorum=3)),))
    async with running(folder, drivers=[driver], database_url=url) as application:
        view = await start_and_follow(application)
        for name in names:
            await answer(application, view.run, ToolAnswer("c", confirmed=True), by=Principal(1, name, "agno"))
        [requirement] = (await look(application, view.run)).requirements
    return requirement.id


def vote(connection: Connection, requirement_id: str, name: str) -> None:
    """Count a vote, as a request does that has locked the run."""
    run = select(runs.c.id).join(requirements, requirements.c.run_key == runs.c.id)
    connection.execute(run.where(requirements.c.id == requirement_id).with_for_update(of=runs))
    votes = find_requirements(connection, [requirement_id])[requirement_id].votes
    keep_votes(connection, requirement_id, (*votes, Vote(name, NOW, "agno")), NOW)


def rename_all(url: str, erased: Erased) -> None:
    for step in list_renames(erased, newest=1000):
        take(url, step)


def take(url: str, step: Step) -> None:
    """Find and change the rows of a step, in two transactions as an erasure does."""
    keys = within(url, lambda connection: step.find(connection, None))
    if keys:
        within(url, lambda connection: step.change(connection, keys))


def voters(url: str) -> list[str]:
    [row] = Place(url).dump()["requirements"]
    return [each["by"] for each in row["votes"]]


async def test_a_vote_that_is_cast_as_another_voter_is_erased_counts(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirement_id = await voted_on(postgres_url, tmp_path, "eve")
    other = Meanwhile(lambda: within(postgres_url, lambda connection: vote(connection, requirement_id, "bob")))
    other.after(monkeypatch, Erased, "replaced_names")
    rename_all(postgres_url, Erased(1, "eve", "erased-1"))
    other.result()
    assert voters(postgres_url) == ["erased-1", "bob"]


async def test_a_vote_that_is_being_cast_does_not_bring_the_name_of_an_erased_voter_back(
    tmp_path: Path, postgres_url: str
) -> None:
    requirement_id = await voted_on(postgres_url, tmp_path, "eve")
    erasure = Meanwhile(lambda: rename_all(postgres_url, Erased(1, "eve", "erased-1")), waits=True)
    with plain_connection(postgres_url) as connection, connection.begin():
        vote(connection, requirement_id, "bob")
        erasure.begin()
    erasure.result()
    assert voters(postgres_url) == ["erased-1", "bob"]


async def test_who_continues_a_run_as_the_one_before_is_erased_keeps_the_name(
    tmp_path: Path, postgres_url: str
) -> None:
    await voted_on(postgres_url, tmp_path, "eve")
    within(postgres_url, lambda connection: connection.execute(update(runs).values(continued_by="eve")))
    renaming = Meanwhile(lambda: rename_all(postgres_url, Erased(1, "eve", "erased-1")), waits=True)
    with plain_connection(postgres_url) as connection, connection.begin():
        connection.execute(update(runs).values(continued_by="bob"))
        renaming.begin()
    renaming.result()
    assert [row["continued_by"] for row in Place(postgres_url).dump()["runs"]] == ["bob"]


@pytest.mark.parametrize("place", [approvals, inbox_decisions], ids=["approval", "inbox"])
async def test_what_is_deleted_with_its_run_as_it_is_decided_is_not_found(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch, place: ModuleType
) -> None:
    driver = PausingDriver((need("c", approval="required"),))
    async with running(tmp_path, drivers=[driver], database_url=postgres_url) as application:
        [requirement] = (await start_and_follow(application)).requirements
        deletion = Meanwhile(lambda: within(postgres_url, lambda connection: connection.execute(delete(runs))))
        deletion.after(monkeypatch, place, "find_approval" if place is approvals else "find_request")
        if place is approvals:
            with pytest.raises(ApprovalNotFound):
                await application.approvals.resolve_approval(ADMIN, ResolveApproval(requirement.id, approved=True))
        else:
            with pytest.raises(RequirementNotFound):
                await application.inbox_decisions.decide(ADMIN, DecideRequirement(requirement.id, Verb.APPROVE))
