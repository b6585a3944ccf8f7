"""A user that is erased: no name and no text is left anywhere, and what belongs to others stays."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import JSON, Text, update

from tests.store.test_audit import entry
from tests.support.caller import path_of
from tests.support.databases import NOW
from tests.support.server import Server, served
from tests.support.toolbox import JsonObject, plan
from unpause.domain.audit_chain import ChainCheck
from unpause.domain.erasure import Erased
from unpause.domain.grants import Grant, GrantMatch, GrantScope
from unpause.domain.principal import Principal
from unpause.domain.scopes import ADMIN
from unpause.domain.tokens import Token
from unpause.errors import InvalidInput
from unpause.services.audit_chain import AuditSealing, seal_after
from unpause.services.erasure import Erasure
from unpause.store.audit import UnreadableEntry, add_entries
from unpause.store.audit_chain import list_chains, stream_sealed
from unpause.store.engine.database import Connection, Database
from unpause.store.erasure.texts import ERASED_OF_RUN
from unpause.store.grants import add_grant
from unpause.store.tables import audit, requirements, runs
from unpause.store.tokens import add_token

NAME = 'ada_%"é'
TEXT = "canary text é"
NOTE = "canary note"


@pytest.fixture
async def server(tmp_path: Path, database_url: str) -> AsyncIterator[Server]:
    async with served(tmp_path, tokens=True, user_isolation=False, database_url=database_url) as server:
        yield server


def erasure(server: Server) -> Erasure:
    return Erasure(server.application.database, server.clock, Principal(1, "command line", via="cli"))


async def erase(server: Server, name: str = NAME, *, cancels: bool = False) -> str:
    return await erasure(server).erase(name, cancels=cancels)


async def checked(server: Server) -> ChainCheck:
    """Return the check of the first organization's chain."""

    def unit(connection: Connection) -> ChainCheck:
        organization_id, head, unsealed = list_chains(connection, 1)[0]
        check = ChainCheck(organization_id, head, None, unsealed)
        for found in stream_sealed(connection, 1):
            assert not isinstance(found, UnreadableEntry)
            check.add(*found)
        check.finish()
        return check

    return await server.application.database.read(unit)


async def words(server: Server) -> str:
    """Return everything that the database says."""
    return json.dumps(await server.dump(), default=str, ensure_ascii=False)


async def lived(server: Server, name: str = NAME) -> tuple[JsonObject, JsonObject]:
    """Have the user start a run that others decide, and decide one of somebody else; return both."""
    user = await server.add_user(1, name, ADMIN)
    asked = plan([("delete_file", {"path": TEXT})], [("note", {"text": TEXT})])
    own = await user.create(asked, session_id=f"chat of {TEXT}", session_state=json.dumps({"said": TEXT}))
    assert (await server.user("bob").answer(own, confirmation_note=NOTE)).status_code == 200
    await server.settled(own)
    other = await server.user("bob").run_tools("delete_file")
    assert (await user.answer(other, confirmation_note="of others")).status_code == 200
    await server.settled(other)
    approval = await server.user("bob").run_tools("promote")
    assert (await user.resolve(approval)).status_code == 200
    created = await user.create_by_codegen(TEXT, metadata={"about": TEXT})
    assert created["status"] == "COMPLETE"
    return own, other


@pytest.mark.sql
async def test_nothing_is_left_of_a_users_name_and_texts_in_any_column(server: Server) -> None:
    own, other = await lived(server)
    before = await words(server)
    assert all(text in before for text in (TEXT, NOTE, json.dumps(NAME)[1:-1].replace("\\u00e9", "é")))
    pseudonym = await erase(server)
    rows = await server.dump()
    for table, found in rows.items():
        for row in found:
            for column, value in row.items():
                text = json.dumps(value, default=str, ensure_ascii=False)
                for gone in (TEXT, NOTE, "ada_%"):
                    assert gone not in text, (table, column, value)
    assert {row["user_id"] for row in rows["runs"]} == {pseudonym, "bob"}
    assert pseudonym in {row["name"] for row in rows["users"]}
    assert rows["user_erasures"] == []
    # Also what no client of this test has filled: a new column is erased, or is no text.
    texts = {column.name for column in runs.c if isinstance(column.type, Text | JSON)} - {"usage"}
    [run] = [row for row in rows["runs"] if row["run_id"] == own["run_id"]]
    assert not any(run[name] for name in texts)
    assert texts - ERASED_OF_RUN.keys() == set()
    # What others see of their own is as it was, with the pseudonym.
    shown = (await server.user("bob").read(other))["requirements"][0]
    assert shown["confirmation_note"] == "of others"
    for path in (path_of(own), f"/runs/{own['run_id']}", f"/runs/{own['run_id']}/timeline", f"{path_of(own)}/events"):
        assert (await server.user("root").get(path)).status_code == 200, path
    key = await server.key_of(own)
    for rest in ("", "/logs"):
        await server.user("root").read_by_codegen(key, rest)


@pytest.mark.sql
async def test_the_audit_trail_is_pseudonymous_and_whole_and_says_what_was_erased(server: Server) -> None:
    await lived(server)
    await AuditSealing(server.application.database).sweep()
    before = (await checked(server)).entries
    pseudonym = await erase(server)
    check = await checked(server)
    assert check.is_whole, check.findings
    assert check.erased > 0
    assert check.entries > before
    entries = await server.audit()
    assert {entry["actor"] for entry in entries if entry["action"] == "approval.resolved"} == {pseudonym}
    erased = [entry for entry in entries if entry["action"] == "user.erased"]
    assert erased
    assert all(entry["details"]["pseudonym"] == pseudonym for entry in erased)


async def test_a_name_in_place_of_an_erased_one_is_found(server: Server) -> None:
    await lived(server)
    await erase(server)
    await AuditSealing(server.application.database).sweep()
    renamed = update(audit).where(audit.c.actor.like("erased-%")).values(actor="eve")
    await server.application.database.write(lambda connection: connection.execute(renamed))
    assert [one.message for one in (await checked(server)).findings] == [
        "an erased actor has another name than the pseudonym in the trail"
    ]


async def test_a_pseudonym_is_no_name_to_be_erased(server: Server) -> None:
    await lived(server)
    pseudonym = await erase(server)
    with pytest.raises(InvalidInput, match="stands for a user that was erased"):
        await erase(server, pseudonym)
    assert (await checked(server)).is_whole


@pytest.mark.sql
async def test_a_vote_alone_is_found_and_a_note_that_is_the_name_stays(server: Server) -> None:
    """The trail's entry about it may have been purged."""
    await server.user("bob").run_tools("delete_file")
    votes = [{"by": NAME, "note": None}, {"by": "bob", "note": NAME}]
    voted = update(requirements).values(votes=votes)
    await server.application.database.write(lambda connection: connection.execute(voted))
    assert (await erasure(server).look(NAME)).counts == {"votes": 1}
    pseudonym = await erase(server)
    [row] = (await server.dump())["requirements"]
    assert row["votes"] == [{"by": pseudonym, "note": None}, {"by": "bob", "note": NAME}]


async def test_access_ends_and_a_second_erasure_finds_nothing(server: Server) -> None:
    user = await server.add_user(1, NAME, ADMIN)
    assert (await user.get("/audit")).status_code == 200
    await erase(server)
    server.clock.move(10)
    assert (await user.get("/audit")).status_code == 401
    assert (await erasure(server).look(NAME)).is_nothing


@pytest.mark.sql
async def test_names_that_are_like_it_and_the_same_one_elsewhere_stay(server: Server) -> None:
    neighbours = ['ada_%"é2', 'adaX%"é', 'ADA_%"É', 'ada_%"', f" {NAME}"]
    for name in neighbours:
        user = await server.add_user(1, name, ADMIN)
        assert (await user.answer(await user.run_tools("delete_file"))).status_code == 200
    rival = await server.add_user(2, NAME, ADMIN)
    run = await rival.create("hello")
    await server.settle(1)
    before = [await erasure(server).look(name) for name in neighbours]
    await lived(server)
    await erase(server)
    assert [await erasure(server).look(name) for name in neighbours] == before
    assert (await rival.read(run))["user_id"] == NAME


async def test_unfinished_runs_refuse_it_unless_they_are_cancelled(server: Server) -> None:
    user = await server.add_user(1, NAME, ADMIN)
    run = await user.run_tools("delete_file")
    async with server.nothing_changes():
        with pytest.raises(InvalidInput, match=r"have not ended: .*PAUSED.*--cancel"):
            await erase(server)
    await erase(server, cancels=True)
    assert (await server.user("root").read(run))["status"] == "CANCELLED"
    assert json.dumps(NAME)[1:-1] not in json.dumps(await server.dump(), default=str)


async def test_what_a_request_adds_that_had_begun_before_the_erasure_ends_with_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await server.add_user(1, NAME, ADMIN)
    late = Grant(
        id="late",
        organization_id=1,
        agent_id="toolbox",
        tool_name="note",
        scope=GrantScope.UNTIL,
        match=GrantMatch.TOOL,
        created_at=NOW,
        user_id=NAME,
        arguments={"text": TEXT},
        granted_by=NAME,
        granter=NAME,
    )
    token = Token("late", 1, NAME, None, "of nothing", (ADMIN,), NOW)
    erase_names = Erasure._erase_names  # noqa: SLF001 - the moment between two of its steps
    rounds: list[Erased] = []

    def add_late(connection: Connection) -> None:
        add_grant(connection, late)
        add_token(connection, token)

    async def add_and_erase(self: Erasure, erased: Erased, newest: int) -> None:
        if not rounds:
            await server.application.database.write(add_late)
        rounds.append(erased)
        await erase_names(self, erased, newest)

    monkeypatch.setattr(Erasure, "_erase_names", add_and_erase)
    pseudonym = await erase(server)
    rows = await server.dump()
    [left] = rows["grants"]
    assert (left["user_id"], left["granted_by"], left["granter"]) == (pseudonym,) * 3
    assert (left["revoked_at"], left["revoked_by"]) == (server.clock.now(), "command line")
    assert (left["arguments"], left["fingerprint"]) == (None, None)
    assert all(row["revoked_at"] is not None for row in rows["tokens"] if row["user_id"] == pseudonym)
    assert NAME not in {row["user_id"] for row in rows["tokens"]}


async def test_an_erasure_that_was_interrupted_goes_on_with_its_pseudonym(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lived(server)
    pseudonyms = set()

    async def killed(*_: object) -> None:
        raise LookupError

    for step in ("_erase_texts", "_erase_trail", "_erase_sessions", "_erase_names"):
        with monkeypatch.context() as patched:
            patched.setattr(Erasure, step, killed)
            with pytest.raises(LookupError):
                await erase(server)
        [begun] = (await server.dump())["user_erasures"]
        pseudonyms.add(begun["pseudonym"])
    assert {await erase(server)} == pseudonyms
    assert "canary" not in await words(server)
    assert (await checked(server)).is_whole


async def test_an_erasure_begins_no_write_in_vain(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    # Beside a busy server each of them waits for the only writer of a SQLite file: 44 of them took 40 seconds.
    await lived(server)
    write = Database.write
    in_vain: list[object] = []

    async def watched(self: Database, unit: Callable[[Connection], Any], *args: Any, **options: Any) -> Any:  # noqa: ANN401 - as it is
        before = await server.dump()
        result = await write(self, unit, *args, **options)
        if await server.dump() == before:
            in_vain.append(unit)
        return result

    await AuditSealing(server.application.database).sweep()
    monkeypatch.setattr(Database, "write", watched)
    await erase(server)
    assert in_vain == []


async def test_an_erasure_comes_to_its_end_though_the_trail_grows_as_fast_as_it_is_sealed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lived(server)
    sealed = 0

    def seal_and_grow(connection: Connection, *args: Any) -> object:  # noqa: ANN401 - as it is
        nonlocal sealed
        sealed += 1
        assert sealed < 50
        found = seal_after(connection, *args)
        add_entries(connection, [entry(actor="bob")])
        return found

    monkeypatch.setattr("unpause.services.erasure.seal_after", seal_and_grow)
    await erase(server)
    await AuditSealing(server.application.database).sweep()
    assert (await checked(server)).is_whole
    assert "canary" not in await words(server)
