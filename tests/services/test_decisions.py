"""Who may decide a call: nobody who started its run, only whom its author named, whichever way they try."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import jwt
import pytest

from tests.support.caller import refusal
from tests.support.server import JWT_KEY, Server, served
from tests.support.toolbox import JsonObject, plan
from unpause.domain.principal import Principal
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import RunRef
from unpause.domain.scopes import ADMIN, DEFAULT_SCOPES
from unpause.errors import NotADecider
from unpause.services.commands import ContinueRun

if TYPE_CHECKING:
    import httpx

FAR = 4_000_000_000

NOT_THE_STARTER = "cannot be decided by the user who started the run"


def jwt_of(user: str, *scopes: str) -> str:
    """Return a JWT for a user, with the usual scopes and these."""
    return jwt.encode({"sub": user, "exp": FAR, "scopes": [*DEFAULT_SCOPES, *scopes]}, JWT_KEY, "HS256")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with served(tmp_path, tokens=True, user_isolation=False) as server:
        yield server


def sent(run: JsonObject, *, confirmed: bool = True, **more: object) -> list[JsonObject]:
    """Return the least that answers all calls of the run."""
    return [{"tool_call_id": tool["tool_call_id"], "confirmed": confirmed, **more} for tool in run["tools"]]


def is_refused(response: httpx.Response) -> None:
    """Fail unless the answer says, in the shape of its API, that others have to decide."""
    assert NOT_THE_STARTER in refusal(response, 403)


async def test_who_started_the_run_cannot_decide_it_through_either_api(server: Server) -> None:
    run = await server.user("alice").run_tools("transfer")
    async with server.nothing_changes():
        for confirmed in (True, False):
            is_refused(await server.user("alice").answer(run, confirmed=confirmed))
            is_refused(await server.user("alice").resume(run, tools=sent(run, confirmed=confirmed)))
        is_refused(await server.user("alice").resume(run, "No, thank you."))
        is_refused(await server.user("alice").resume(run, "Yes!", tools=sent(run)))
    assert (await server.read(run))["status"] == "PAUSED"


async def test_to_name_another_user_in_the_request_helps_nobody_who_has_a_token_of_their_own(server: Server) -> None:
    run = await server.user("alice").run_tools("transfer", user_id="bob")
    assert run["user_id"] == "alice"
    async with server.nothing_changes():
        is_refused(await server.user("alice").answer(run, form={"user_id": "bob"}))
        is_refused(await server.user("alice").resume(run, tools=sent(run), user_id="bob"))
        is_refused(await server.user(jwt_of("alice")).answer(run, form={"user_id": "bob"}))


async def test_who_somebody_has_proved_to_be_counts_before_whom_they_say_they_act_for(server: Server) -> None:
    run = await server.user("alice").run_tools("transfer")
    pretending = Principal(1, "bob", via="agno", subject="alice")
    (tool,) = run["tools"]
    command = ContinueRun((ToolAnswer(tool["tool_call_id"], confirmed=True),))
    async with server.nothing_changes():
        with pytest.raises(NotADecider, match=NOT_THE_STARTER):
            await server.application.service.continue_run(pretending, RunRef(run_id=run["run_id"]), command)


async def test_nothing_that_comes_with_an_answer_gets_round_it(server: Server) -> None:
    edited = await server.user("alice").run_tools("edit")
    filled = await server.user("alice").run_tools("fill")
    wired = await server.user("alice").run_tools("wire")
    form = [{"name": "amount", "value": 5}, {"name": "code", "value": "1234"}]
    async with server.nothing_changes():
        assert "its approvers" in refusal(await server.user("alice").answer(edited, tool_args={"amount": 6}), 403)
        is_refused(await server.user("alice").answer(filled, user_input_schema=form))
        is_refused(await server.user("alice").answer(wired, confirmed=None, result="sent"))
        is_refused(await server.user("alice").answer(wired, confirmed=False))
        is_refused(await server.user("alice").resume(wired, "sent"))


async def test_of_two_answers_the_one_that_is_allowed_is_not_kept_without_the_other(server: Server) -> None:
    for tools in (("delete_file", "transfer"), ("transfer", "delete_file")):
        run = await server.user("alice").run_tools(*tools)
        async with server.nothing_changes():
            is_refused(await server.user("alice").answer(run))
            is_refused(await server.user("alice").resume(run, tools=sent(run)))
        # Alone it is.
        mine = [
            tool
            for tool in sent(run)
            if tool["tool_call_id"] == run["tools"][tools.index("delete_file")]["tool_call_id"]
        ]
        assert (await server.user("alice").post_continue(run, mine)).status_code == 200
        assert (await server.read(run))["status"] == "PAUSED"


async def test_an_approval_is_neither_given_nor_refused_nor_deleted_by_who_started_the_run(server: Server) -> None:
    run = await server.user("alice").run_tools("sell")
    approval = await server.approval_of(run)
    async with server.nothing_changes():
        for status in ("approved", "rejected"):
            is_refused(await server.user("alice").resolve(run, status, resolved_by="bob"))
        deleted = await server.user("alice").delete(f"/approvals/{approval['id']}")
        is_refused(deleted)
    assert (await server.user("bob").resolve(run)).status_code == 200
    # To send it on decides nothing.
    assert (await server.user("alice").answer(run)).status_code == 200
    assert (await server.settled(run))["status"] == "COMPLETED"
    assert server.executed == ["sell(5)"]


async def test_what_an_approved_call_still_needs_is_not_filled_in_by_who_started_the_run(server: Server) -> None:
    run = await server.user("alice").run_tools("promote")
    assert (await server.user("bob").resolve(run)).status_code == 200
    form = [{"name": "role", "value": "owner"}]
    async with server.nothing_changes():
        is_refused(await server.user("alice").answer(run, user_input_schema=form))
    assert (await server.user("carol").answer(run, user_input_schema=form)).status_code == 200
    # Nobody has approved that yet, and who started the run cannot now either.
    assert (await server.settled(run))["status"] == "PAUSED"
    assert server.executed == []
    query = {"run_id": run["run_id"], "status": "pending"}
    listed = await server.user("root").get("/approvals", **query)
    (pending,) = listed.json()["data"]
    path = f"/approvals/{pending['id']}/resolve"
    async with server.nothing_changes():
        is_refused(await server.user("alice").post(path, {"status": "approved"}))
    assert (await server.user("bob").post(path, {"status": "approved"})).is_success
    assert (await server.user("alice").post_continue(run, [])).is_success
    await server.settled(run)
    assert server.executed == ["promote(5, owner)"]


async def test_who_gave_the_run_words_is_no_second_person_for_what_came_of_them(server: Server) -> None:
    message = plan([("delete_file", {"path": "hello"})], [("transfer", {"amount": 5})])
    for words in ("a prompt", "a reason", "an answer"):
        run = await server.user("alice").create(message)
        if words == "a prompt":
            assert (await server.user("bob").resume(run, "Then pay.")).status_code == 200
        elif words == "a reason":
            assert (await server.user("bob").answer(run, confirmed=False, confirmation_note="Pay.")).status_code == 200
        else:
            # A bare yes or no says nothing to the model: bob is still another person.
            assert (await server.user("bob").answer(run)).status_code == 200
        run = await server.settled(run)
        if words == "an answer":
            assert (await server.user("bob").answer(run)).status_code == 200
            continue
        async with server.nothing_changes():
            refused = await server.user("bob").answer(run)
            assert "a user who gave the run input" in refusal(refused, 403)
            refusal(await server.user("bob").resume(run, "", tools=sent(run)), 403)
        assert (await server.user("carol").answer(run)).status_code == 200
        assert (await server.settled(run))["status"] == "COMPLETED"


async def test_after_words_of_nobody_known_nobody_is_a_second_person(server: Server) -> None:
    message = plan([("delete_file", {"path": "hello"})], [("transfer", {"amount": 5})])
    run = await server.user("alice").create(message)
    assert (await server.user("service").resume(run, "Then pay.")).status_code == 200
    async with server.nothing_changes():
        for who in ("bob", "root"):
            refused = await server.user(who).answer(run)
            assert "some input of the run has no user" in refusal(refused, 403)


async def test_who_filled_in_a_value_or_brought_a_result_is_no_second_person_afterwards(server: Server) -> None:
    form = [{"name": "amount", "value": 5}, {"name": "code", "value": "1234"}]
    answers: dict[str, JsonObject] = {
        "wire": {"confirmed": None, "result": "sent"},
        "fill": {"user_input_schema": form},
    }
    for tool, answer in answers.items():
        run = await server.user("alice").create(plan([(tool, {"amount": 5})], [("transfer", {"amount": 5})]))
        assert (await server.user("bob").answer(run, **answer)).status_code == 200
        run = await server.settled(run)
        async with server.nothing_changes():
            assert "a user who gave the run input" in refusal(await server.user("bob").answer(run), 403)
        assert (await server.user("carol").answer(run)).status_code == 200


async def test_anybody_else_decides(server: Server) -> None:
    by_agno, by_tools, by_prompt, by_root = [await server.user("alice").run_tools("transfer") for _ in range(4)]
    assert (await server.user("bob").answer(by_agno)).status_code == 200
    assert (await server.user("bob").resume(by_tools, tools=sent(by_tools))).status_code == 200
    assert (await server.user("bob").resume(by_prompt, "Too much.")).status_code == 200
    assert (await server.user("root").answer(by_root)).status_code == 200
    for run in (by_agno, by_tools, by_root):
        assert (await server.settled(run))["content"] == "Done. transfer: did transfer(5)."
    assert "Too much." in (await server.settled(by_prompt))["content"]
    assert server.executed == ["transfer(5)"] * 3


async def test_an_administrator_is_bound_by_it_too(server: Server) -> None:
    run = await server.user("root").run_tools("transfer")
    async with server.nothing_changes():
        is_refused(await server.user("root").answer(run))
    assert (await server.user("alice").answer(run)).status_code == 200


async def test_a_user_is_the_same_with_a_token_and_with_a_jwt(server: Server) -> None:
    run = await server.user(jwt_of("alice")).run_tools("transfer")
    async with server.nothing_changes():
        is_refused(await server.user("alice").answer(run))
        is_refused(await server.user(jwt_of("alice", ADMIN)).answer(run))
    assert (await server.user(jwt_of("bob")).answer(run)).status_code == 200


async def test_a_token_that_acts_for_others_decides_only_for_somebody(server: Server) -> None:
    run, sold = await server.user("alice").run_tools("transfer"), await server.user("alice").run_tools("sell")
    async with server.nothing_changes():
        assert "the request names no user" in refusal(await server.user("service").answer(run), 403)
        assert "the request names no user" in refusal(await server.user("service").resume(run, "no"), 403)
        is_refused(await server.user("service").answer(run, form={"user_id": "alice"}))
        # Another user's run is not there for the one it names.
        refusal(await server.user("service").answer(run, form={"user_id": "bob"}), 404)
        is_refused(await server.user("service").resolve(sold, resolved_by="alice"))
        assert "the request names no user" in refusal(await server.user("service").resolve(sold), 403)
    # It is trusted to know whom it acts for.
    assert (await server.user("service").resolve(sold, resolved_by="bob")).json()["resolved_by"] == "bob"


async def test_a_run_that_nobody_is_known_to_have_started_can_only_be_cancelled(server: Server) -> None:
    run, sold = (
        await server.user("service").run_tools("transfer"),
        await server.user("service").run_tools("sell"),
    )
    assert run.get("user_id") is None
    async with server.nothing_changes():
        for who in ("service", "alice", "root"):
            for confirmed in (True, False):
                refused = await server.user(who).answer(run, confirmed=confirmed)
                assert "the run has no user" in refusal(refused, 403)
        assert "the run has no user" in refusal(await server.user("root").resolve(sold), 403)
    cancelled = await server.user("alice").post(f"/agents/toolbox/runs/{run['run_id']}/cancel")
    assert cancelled.status_code == 200
    assert (await server.read(run))["status"] == "CANCELLED"


async def test_only_the_named_users_and_holders_of_a_named_scope_decide(server: Server) -> None:
    run = await server.user("alice").run_tools("lend")
    strangers = [
        "alice",
        jwt_of("dave"),
        jwt_of("Bob"),
        jwt_of("bob "),
        jwt_of(
            "dave", "finance:read", "finance:approver", "finance:approve:all", "finance", "approve", "approvals:write"
        ),
        jwt_of("dave", "agents:finance:approve"),
    ]
    async with server.nothing_changes():
        for stranger in strangers:
            for confirmed in (True, False):
                refused = await server.user(stranger).answer(run, confirmed=confirmed)
                assert "can only be decided by its approvers" in refusal(refused, 403)
            assert "only be decided by its approvers" in refusal(await server.user(stranger).resume(run, "No."), 403)
        assert "only be decided by its approvers" in refusal(await server.user("service").answer(run), 403)
    for decider in ("bob", jwt_of("bob"), "carol", jwt_of("dave", "finance:approve"), "root"):
        run = await server.user("alice").run_tools("lend")
        assert (await server.user(decider).answer(run)).status_code == 200
        assert (await server.settled(run))["status"] == "COMPLETED"
    assert server.executed == ["lend(5)"] * 5


async def test_whoever_is_called_like_a_scope_does_not_have_it(server: Server) -> None:
    run = await server.user("alice").run_tools("lend")
    async with server.nothing_changes():
        for stranger in ("finance:approve", "scope:finance:approve", "user:bob"):
            assert "only be decided by its approvers" in refusal(await server.user(jwt_of(stranger)).answer(run), 403)


async def test_where_nobody_is_asked_who_they_are_everybody_has_every_scope(tmp_path: Path) -> None:
    async with served(tmp_path, tokens=True, user_isolation=False, dev=True) as server:
        run = await server.user("nobody").run_tools("lend")
        assert (await server.user("nobody").answer(run)).status_code == 200


async def test_users_see_who_may_decide_only_what_they_may_see(tmp_path: Path) -> None:
    async with served(tmp_path, tokens=True, user_isolation=True) as server:
        run, sold = await server.user("alice").run_tools("lend"), await server.user("alice").run_tools("sell")
        async with server.nothing_changes():
            # To be named as an approver shows nobody another user's run.
            refusal(await server.user("bob").answer(run), 404)
            for who in ("rival", "garbage"):
                response = await server.user(who).resolve(sold)
                assert response.status_code == (404 if who == "rival" else 401)
        # Approvals are there for whoever decides them, and Codegen's API knows members only.
        assert (await server.user("bob").resolve(sold)).status_code == 200
        assert (await server.user("bob").resume(run, tools=sent(run))).status_code == 200
