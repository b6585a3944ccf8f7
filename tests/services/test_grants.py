"""Grants: which later calls a decision decides, and which it never does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.caller import confirming
from tests.support.gates import Gates
from tests.support.server import Server, SettableClock, served
from tests.support.toolbox import JsonObject, plan
from unpause.agents.driver import RequirementRequest
from unpause.auth.tokens import revoke_token
from unpause.domain.grants import Grant, GrantFilter, GrantMatch, GrantRequest, GrantScope
from unpause.domain.principal import Principal
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import RunRef
from unpause.domain.scopes import ADMIN
from unpause.errors import GrantNotFound, NotADecider, RequirementMismatch
from unpause.services.commands import ContinueRun
from unpause.services.segment_journal import SegmentJournal

RUN, SESSION, UNTIL = GrantScope
ARGUMENTS, TOOL = GrantMatch
PUBLISH, SPEND = [("publish", {"path": "a"})], [("spend", {"amount": 5})]


@pytest.fixture
async def server(database_url: str, tmp_path: Path) -> AsyncIterator[Server]:
    async with served(tmp_path, tokens=True, user_isolation=False, database_url=database_url) as server:
        yield server


def principal(server: Server, who: str | None) -> Principal:
    """Return the person with their token; without tokens anybody."""
    if who is None or not server.tokens:
        return Principal(1, via="agno")
    token_id = server.tokens[who].removeprefix("unp_").partition(".")[0]
    scopes = frozenset({ADMIN}) if who == "root" else frozenset({"agents:run", "approvals:write"})
    return Principal(1, who, via="agno", subject=who, scopes=scopes, token_id=token_id)


async def approve(server: Server, run: JsonObject, who: str | None = "alice", **remember: object) -> None:
    """Approve the one call that waits and have that remembered: for the session, unless ``remember`` says otherwise."""
    (waiting,) = [tool for tool in run["tools"] if tool["requires_confirmation"]]
    answer = ToolAnswer(
        waiting["tool_call_id"],
        confirmed=True,
        remember=GrantRequest(**{"scope": SESSION, **remember}),  # type: ignore[arg-type]
    )
    command = ContinueRun(answers=(answer,))
    await server.application.service.continue_run(principal(server, who), RunRef(run_id=run["run_id"]), command)


async def granted(server: Server, *turns: object, who: str = "alice", **remember: object) -> JsonObject:
    """Create a run in the session ``s`` whose first call is approved and remembered; return it once it settles."""
    run = await server.user(who).create(plan(*turns), session_id="s")  # type: ignore[arg-type]
    assert run["status"] == "PAUSED"
    await approve(server, run, who, **remember)
    return await server.settled(run)


async def grants_of(server: Server, **filters: object) -> list[Grant]:
    selection = GrantFilter(**filters)  # type: ignore[arg-type]
    return await server.application.grants.list_grants(principal(server, "root"), selection, limit=50)


async def waits(server: Server, calls: object = PUBLISH, who: str = "alice", session: str = "s", **form: str) -> bool:
    """Create one more run; return whether it waits for a person, and end it then."""
    run = await server.user(who).create(plan(calls), session_id=session, **form)  # type: ignore[arg-type]
    if run["status"] == "PAUSED":
        assert (await server.user("root").cancel(run)).is_success
        return True
    assert run["status"] == "COMPLETED", run
    return False


# -------------------------------------------------------------------------------- what a grant decides


@pytest.mark.sql
async def test_a_granted_call_runs_without_a_pause_and_is_counted_recorded_and_shown(server: Server) -> None:
    first = await granted(server, PUBLISH)
    assert first["status"] == "COMPLETED"
    second = await server.user("alice").create(plan(PUBLISH), session_id="s")
    assert (second["status"], server.executed) == ("COMPLETED", ["publish(a)", "publish(a)"])
    (tool,) = second["tools"]
    assert (tool["requires_confirmation"], tool["confirmed"]) == (False, True)
    (grant,) = await grants_of(server)
    assert (grant.uses, grant.active, grant.granted_by, grant.arguments) == (1, True, "alice", {"path": "a"})
    assert grant.last_used_at == server.clock.now()
    trail = await server.audit(run_id=second["run_id"])
    assert [(entry["action"], entry["actor"], entry["via"], entry["decision"]) for entry in trail] == [
        ("requirement.answered", "alice", "grant", "confirmed")
    ]
    assert trail[0]["details"]["grant_id"] == grant.id
    made = [entry for entry in await server.audit(run_id=first["run_id"]) if entry["action"] == "grant.created"]
    assert [(entry["actor"], entry["subject"]) for entry in made] == [("alice", grant.id)]
    frames = await server.frames(second)
    assert [frame.event for frame in frames if frame.event in {"RunPaused", "RunContinued"}] == []


async def test_other_arguments_wait_and_the_same_in_another_order_do_not(server: Server) -> None:
    moved = [("publish", {"path": "b"})]
    await granted(server, PUBLISH)
    assert await waits(server, moved)
    assert not await waits(server, PUBLISH)


async def test_a_grant_for_the_tool_decides_all_its_calls_and_one_for_edited_arguments_those(server: Server) -> None:
    await granted(server, SPEND, match=TOOL)
    assert not await waits(server, [("spend", {"amount": 7})])
    assert await waits(server, PUBLISH)


async def test_a_grant_for_the_run_ends_with_it(server: Server) -> None:
    run = await granted(server, PUBLISH, PUBLISH, scope=RUN)
    assert (run["status"], len(server.executed)) == ("COMPLETED", 2)
    (grant,) = await grants_of(server)
    assert (grant.uses, grant.active, grant.run_id) == (1, False, run["run_id"])
    assert await waits(server)


@pytest.mark.sql
async def test_a_grant_until_a_time_is_for_all_sessions_of_the_user_and_ends_then(server: Server) -> None:
    await granted(server, PUBLISH, scope=UNTIL, until=server.clock.now() + timedelta(hours=1))
    assert not await waits(server, session="t")
    assert await waits(server, session="u", who="bob")
    server.clock.move(3601)
    assert await waits(server, session="t")
    assert [grant.active for grant in await grants_of(server)] == [False]


async def test_a_grant_until_a_time_stays_in_its_session_where_nobody_knows_the_user(server: Server) -> None:
    run = await server.user("service").create(plan(PUBLISH), session_id="s")
    await approve(server, run, "service", scope=UNTIL, until=server.clock.now() + timedelta(hours=1))
    await server.settled(run)
    assert not await waits(server, who="service")
    assert await waits(server, who="service", session="t")


async def test_only_the_calls_of_a_turn_that_are_granted_run_and_the_others_wait(server: Server) -> None:
    await granted(server, PUBLISH)
    run = await server.user("alice").create(plan([*PUBLISH, ("delete_file", {"path": "a"})]), session_id="s")
    assert (run["status"], server.executed) == ("PAUSED", ["publish(a)", "publish(a)"])
    (waiting,) = [tool for tool in run["tools"] if tool["requires_confirmation"]]
    assert waiting["tool_name"] == "delete_file"
    done = await server.user("alice").answer(run)
    assert (done.json()["status"], server.executed[2:]) == ("COMPLETED", ["delete_file(a)"])


async def test_agents_in_a_process_of_their_own_find_grants_in_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNPAUSE_TEST_FRAMED", "1")
    async with served(tmp_path, tokens=True, user_isolation=False) as framed:
        run = await granted(framed, PUBLISH)
        assert (run["status"], framed.executed) == ("COMPLETED", ["publish(a)"])
        assert not await waits(framed)
        assert await waits(framed, [("publish", {"path": "b"})])
        (grant,) = await grants_of(framed)
        assert grant.uses == 1
        await framed.application.grants.revoke_grant(principal(framed, "root"), grant.id)
        assert await waits(framed)


# -------------------------------------------------------------------------------- what it never decides


@pytest.mark.sql
async def test_never_in_another_session_for_another_user_agent_or_organization(server: Server) -> None:
    await granted(server, PUBLISH)
    assert await waits(server, session="t")
    assert await waits(server, who="bob")
    other = await server.user("alice").create(plan(PUBLISH), agent="other", session_id="s")
    assert other["status"] == "PAUSED"
    foreign = await server.user("rival").create(plan(PUBLISH), session_id="s")
    assert foreign["status"] == "PAUSED"


async def test_what_is_rejected_or_not_allowed_is_not_remembered(server: Server) -> None:
    async def refused(name: str, **remember: Any) -> str:  # noqa: ANN401 - the fields of a request
        run = await server.user("alice").run_tools(name)
        with pytest.raises(RequirementMismatch) as error:
            await approve(server, run, **remember)
        return error.value.message

    assert "cannot be remembered" in await refused("delete_file")
    assert "only exactly these arguments" in await refused("publish", match=TOOL)
    assert "needs the time" in await refused("publish", scope=UNTIL)
    assert "the time is over" in await refused("publish", scope=UNTIL, until=server.clock.now())
    run = await server.user("alice").run_tools("publish")
    answer = ToolAnswer(run["tools"][0]["tool_call_id"], confirmed=False, remember=GrantRequest(SESSION))
    with pytest.raises(RequirementMismatch, match="only an approval"):
        await server.application.service.continue_run(
            principal(server, "alice"), RunRef(run_id=run["run_id"]), ContinueRun(answers=(answer,))
        )
    assert await grants_of(server) == []


@pytest.mark.sql
async def test_a_grant_ends_with_the_token_of_the_one_who_granted(server: Server) -> None:
    await granted(server, PUBLISH)
    assert not await waits(server)
    token_id = principal(server, "alice").token_id or ""
    await server.application.database.write(
        lambda connection: revoke_token(connection, token_id, Principal(1), server.clock.now())
    )
    run = await server.user("service").create(plan(PUBLISH), session_id="s", user_id="alice")
    assert run["status"] == "PAUSED"
    assert [grant.active for grant in await grants_of(server)] == [False]


@pytest.mark.sql
async def test_a_grant_ends_with_its_session(server: Server) -> None:
    await granted(server, PUBLISH)
    assert (await server.user("root").delete("/sessions/s")).is_success
    assert await grants_of(server) == []
    assert await waits(server)


async def test_a_revoked_grant_decides_nothing_any_more(server: Server) -> None:
    await granted(server, PUBLISH)
    (grant,) = await grants_of(server)
    with pytest.raises(GrantNotFound):
        await server.application.grants.revoke_grant(Principal(2, "rival", scopes=frozenset({ADMIN})), grant.id)
    for _ in range(2):
        revoked = await server.application.grants.revoke_grant(principal(server, "bob"), grant.id)
        assert (revoked.active, revoked.revoked_by) == (False, "bob")
    assert await waits(server)
    trail = [entry for entry in await server.audit() if entry["action"] == "grant.revoked"]
    assert [(entry["actor"], entry["subject"]) for entry in trail] == [("bob", grant.id)]
    assert await grants_of(server, active=True) == []


@pytest.mark.sql
async def test_of_calls_and_a_revocation_at_once_no_call_starts_after_the_revocation(server: Server) -> None:
    await granted(server, SPEND, match=TOOL)
    (grant,) = await grants_of(server)
    revoking = asyncio.create_task(server.application.grants.revoke_grant(principal(server, "root"), grant.id))
    runs = await asyncio.gather(*(server.user("alice").create(plan(SPEND), session_id="s") for _ in range(6)))
    await revoking
    (grant,) = await grants_of(server)
    started = [run for run in runs if run["status"] == "COMPLETED"]
    assert grant.uses == len(started) == len(server.executed) - 1


@pytest.mark.sql
async def test_a_grant_that_is_revoked_between_the_question_and_the_start_decides_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await granted(server, PUBLISH)
    (grant,) = await grants_of(server)
    find = SegmentJournal.find_grant

    async def find_and_revoke(journal: SegmentJournal, request: RequirementRequest) -> bool:
        found = await find(journal, request)
        await server.application.grants.revoke_grant(principal(server, "root"), grant.id)
        return found

    monkeypatch.setattr(SegmentJournal, "find_grant", find_and_revoke)
    run = await server.user("alice").create(plan(PUBLISH), session_id="s")
    assert (run["status"], server.executed) == ("PAUSED", ["publish(a)"])
    assert [each.uses for each in await grants_of(server)] == [0]
    assert [entry["action"] for entry in await server.audit(run_id=run["run_id"])] == []
    assert (await server.user("alice").answer(run)).json()["status"] == "COMPLETED"


# -------------------------------------------------------------------------------- strict rules that an author overrides


async def test_a_grant_of_the_second_person_decides_for_the_starter_and_never_for_itself(server: Server) -> None:
    run = await server.user("alice").create(plan([("donate", {"amount": 5})]), session_id="s")
    with pytest.raises(NotADecider):
        await approve(server, run, "alice", match=TOOL)
    await approve(server, run, "bob", match=TOOL)
    assert (await server.settled(run))["status"] == "COMPLETED"
    assert not await waits(server, [("donate", {"amount": 6})])
    (grant,) = await grants_of(server)
    assert grant.expires_at == server.clock.now() + timedelta(hours=1)
    # A user who gave the run input is no second person.
    held = await server.user("alice").create(
        plan([("ask", {"question": "?"})], [("donate", {"amount": 7})]), session_id="s"
    )
    await server.user("bob").resume(held, "yes")
    assert (await server.read(held))["status"] == "PAUSED"
    assert [call for call in server.executed if call.startswith("donate")] == ["donate(5)", "donate(6)"]


async def test_the_last_of_a_quorum_can_have_it_remembered_and_the_first_cannot(server: Server) -> None:
    run = await server.user("alice").create(plan([("merge", {"amount": 5})]), session_id="s")
    with pytest.raises(RequirementMismatch, match="needs more people"):
        await approve(server, run, "bob")
    assert (await server.user("bob").answer(run)).is_success
    await approve(server, await server.read(run), "carol")
    assert (await server.settled(run))["status"] == "COMPLETED"
    assert not await waits(server, [("merge", {"amount": 5})])


# -------------------------------------------------------------------------------- what crosses a crash or a stop


async def test_a_granted_call_that_is_in_doubt_waits_for_a_person(database_url: str, tmp_path: Path) -> None:
    clock, gates, calls = SettableClock(), Gates("hold_spending"), plan([("hold_spending", {"amount": 5})])
    async with served(tmp_path, clock=clock, database_url=database_url) as server:
        await approve(server, await server.create(calls, session_id="s"), None)
        await server.settle(1)
    async with served(
        tmp_path, clock=clock, gates=gates, database_url=database_url, shutdown_grace_seconds=0
    ) as server:
        run = await server.begin(calls, session_id="s")
        await gates.reached("hold_spending")
    async with served(tmp_path, clock=clock, database_url=database_url) as server:
        doubtful = await server.settled(run)
        assert (doubtful["status"], server.executed) == ("PAUSED", [])
        assert "may already have run" in doubtful["content"] or doubtful["requirements"][-1]["in_doubt"]
        assert [grant.uses for grant in await grants_of(server)] == [1]
        assert (await server.continued(doubtful, confirming(doubtful)))["status"] == "COMPLETED"
        assert server.executed == ["hold_spending(5)"]
