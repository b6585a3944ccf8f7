"""Who may decide a call: nobody who started its run, only whom its author named, whichever way they try."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import jwt
import pytest

from tests.support.agents import plan
from tests.support.bank import Bank, JsonObject, at_bank
from unpause.domain.principal import Principal
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import RunRef
from unpause.domain.scopes import ADMIN, USUAL
from unpause.errors import NotADecider
from unpause.services.commands import ContinueRun

if TYPE_CHECKING:
    import httpx

JWT_KEY = "a secret of the tests, 32 bytes or more"
FAR = 4_000_000_000

NOT_THE_STARTER = "has to be decided by somebody else than who started the run"


def jwt_of(user: str, *scopes: str) -> str:
    """Return a JWT for a user, with the usual scopes and these."""
    return jwt.encode({"sub": user, "exp": FAR, "scopes": [*USUAL, *scopes]}, JWT_KEY, "HS256")


@pytest.fixture
async def bank(database_url: str, tmp_path: Path) -> AsyncIterator[Bank]:
    """Serve the bank, which knows JWTs, too."""
    async with at_bank(database_url, tmp_path, jwt_key=JWT_KEY, jwt_algorithm="HS256") as served:
        yield served


def said(run: JsonObject, *, confirmed: bool = True, **more: object) -> list[JsonObject]:
    """Return the least that answers all calls of the run."""
    return [{"tool_call_id": tool["tool_call_id"], "confirmed": confirmed, **more} for tool in run["tools"]]


async def is_refused(bank: Bank, response: httpx.Response) -> None:
    """Fail unless the answer says, in the shape of its API, that others have to decide."""
    assert NOT_THE_STARTER in bank.refusal(response, 403)


async def test_who_started_the_run_cannot_decide_it_through_either_api(bank: Bank) -> None:
    run = await bank.create("alice", "pay")
    async with bank.nothing_changes():
        for confirmed in (True, False):
            await is_refused(bank, await bank.answer("alice", run, confirmed=confirmed))
            await is_refused(bank, await bank.resume("alice", run, tools=said(run, confirmed=confirmed)))
        await is_refused(bank, await bank.resume("alice", run, "No, thank you."))
        await is_refused(bank, await bank.resume("alice", run, "Yes!", tools=said(run)))
    assert (await bank.get(run))["status"] == "PAUSED"


async def test_to_name_another_user_in_the_request_helps_nobody_who_has_a_token_of_their_own(bank: Bank) -> None:
    run = await bank.create("alice", "pay", user_id="bob")
    assert run["user_id"] == "alice"
    async with bank.nothing_changes():
        await is_refused(bank, await bank.answer("alice", run, form={"user_id": "bob"}))
        await is_refused(bank, await bank.resume("alice", run, tools=said(run), user_id="bob"))
        await is_refused(bank, await bank.answer(jwt_of("alice"), run, form={"user_id": "bob"}))


async def test_who_somebody_has_proved_to_be_counts_before_whom_they_say_they_act_for(bank: Bank) -> None:
    run = await bank.create("alice", "pay")
    pretending = Principal(1, "bob", via="agno", subject="alice")
    (tool,) = run["tools"]
    command = ContinueRun((ToolAnswer(tool["tool_call_id"], confirmed=True),))
    async with bank.nothing_changes():
        with pytest.raises(NotADecider, match=NOT_THE_STARTER):
            await bank.application.service.continue_run(pretending, RunRef(run_id=run["run_id"]), command)


async def test_nothing_that_comes_with_an_answer_gets_round_it(bank: Bank) -> None:
    edited = await bank.create("alice", "edit")
    filled = await bank.create("alice", "fill")
    wired = await bank.create("alice", "wire")
    form = [{"name": "amount", "value": 5}, {"name": "code", "value": "1234"}]
    async with bank.nothing_changes():
        assert "for others" in bank.refusal(await bank.answer("alice", edited, tool_args={"amount": 6}), 403)
        await is_refused(bank, await bank.answer("alice", filled, user_input_schema=form))
        await is_refused(bank, await bank.answer("alice", wired, confirmed=None, result="sent"))
        await is_refused(bank, await bank.answer("alice", wired, confirmed=False))
        await is_refused(bank, await bank.resume("alice", wired, "sent"))


async def test_of_two_answers_the_one_that_is_allowed_is_not_kept_without_the_other(bank: Bank) -> None:
    for tools in (("note", "pay"), ("pay", "note")):
        run = await bank.create("alice", *tools)
        async with bank.nothing_changes():
            await is_refused(bank, await bank.answer("alice", run))
            await is_refused(bank, await bank.resume("alice", run, tools=said(run)))
        # Alone it is.
        mine = [tool for tool in said(run) if tool["tool_call_id"] == run["tools"][tools.index("note")]["tool_call_id"]]
        assert (await bank.continue_with("alice", run, mine)).status_code == 200
        assert (await bank.get(run))["status"] == "PAUSED"


async def test_an_approval_is_neither_given_nor_refused_nor_deleted_by_who_started_the_run(bank: Bank) -> None:
    run = await bank.create("alice", "sell")
    approval = await bank.approval_of(run)
    async with bank.nothing_changes():
        for status in ("approved", "rejected"):
            await is_refused(bank, await bank.resolve("alice", run, status, resolved_by="bob"))
        deleted = await bank.client.delete(f"/approvals/{approval['id']}", headers=bank.headers("alice"))
        await is_refused(bank, deleted)
    assert (await bank.resolve("bob", run)).status_code == 200
    # To send it on decides nothing.
    assert (await bank.answer("alice", run)).status_code == 200
    assert (await bank.settled(run))["status"] == "COMPLETED"
    assert bank.executed == ["sell(5)"]


async def test_what_an_approved_call_still_needs_is_not_filled_in_by_who_started_the_run(bank: Bank) -> None:
    run = await bank.create("alice", "grant")
    assert (await bank.resolve("bob", run)).status_code == 200
    form = [{"name": "role", "value": "owner"}]
    async with bank.nothing_changes():
        await is_refused(bank, await bank.answer("alice", run, user_input_schema=form))
    assert (await bank.answer("carol", run, user_input_schema=form)).status_code == 200
    # Nobody has approved that yet, and who started the run cannot now either.
    assert (await bank.settled(run))["status"] == "PAUSED"
    assert bank.executed == []
    query = {"run_id": run["run_id"], "status": "pending"}
    listed = await bank.client.get("/approvals", params=query, headers=bank.headers("root"))
    (pending,) = listed.json()["data"]
    path = f"/approvals/{pending['id']}/resolve"
    async with bank.nothing_changes():
        await is_refused(bank, await bank.client.post(path, json={"status": "approved"}, headers=bank.headers("alice")))
    assert (await bank.client.post(path, json={"status": "approved"}, headers=bank.headers("bob"))).is_success
    assert (await bank.continue_with("alice", run, [])).is_success
    await bank.settled(run)
    assert bank.executed == ["grant(5, owner)"]


async def test_who_gave_the_run_words_is_no_second_person_for_what_came_of_them(bank: Bank) -> None:
    message = plan([("note", {"text": "hello"})], [("pay", {"amount": 5})])
    for words in ("a prompt", "a reason", "an answer"):
        run = await bank.create("alice", message=message)
        if words == "a prompt":
            assert (await bank.resume("bob", run, "Then pay.")).status_code == 200
        elif words == "a reason":
            assert (await bank.answer("bob", run, confirmed=False, confirmation_note="Pay.")).status_code == 200
        else:
            # A bare yes or no says nothing to the model: bob is still another person.
            assert (await bank.answer("bob", run)).status_code == 200
        run = await bank.settled(run)
        if words == "an answer":
            assert (await bank.answer("bob", run)).status_code == 200
            continue
        async with bank.nothing_changes():
            refused = await bank.answer("bob", run)
            assert "somebody who gave the run no input" in bank.refusal(refused, 403)
            bank.refusal(await bank.resume("bob", run, "", tools=said(run)), 403)
        assert (await bank.answer("carol", run)).status_code == 200
        assert (await bank.settled(run))["status"] == "COMPLETED"


async def test_who_filled_in_a_value_or_brought_a_result_is_no_second_person_afterwards(bank: Bank) -> None:
    form = [{"name": "amount", "value": 5}, {"name": "code", "value": "1234"}]
    answers: dict[str, JsonObject] = {
        "wire": {"confirmed": None, "result": "sent"},
        "fill": {"user_input_schema": form},
    }
    for tool, answer in answers.items():
        run = await bank.create("alice", message=plan([(tool, {"amount": 5})], [("pay", {"amount": 5})]))
        assert (await bank.answer("bob", run, **answer)).status_code == 200
        run = await bank.settled(run)
        async with bank.nothing_changes():
            assert "somebody who gave the run no input" in bank.refusal(await bank.answer("bob", run), 403)
        assert (await bank.answer("carol", run)).status_code == 200


async def test_anybody_else_decides(bank: Bank) -> None:
    by_agno, by_tools, by_prompt, by_root = [await bank.create("alice", "pay") for _ in range(4)]
    assert (await bank.answer("bob", by_agno)).status_code == 200
    assert (await bank.resume("bob", by_tools, tools=said(by_tools))).status_code == 200
    assert (await bank.resume("bob", by_prompt, "Too much.")).status_code == 200
    assert (await bank.answer("root", by_root)).status_code == 200
    for run in (by_agno, by_tools, by_root):
        assert (await bank.settled(run))["content"] == "Done. pay: did pay(5)."
    assert "Too much." in (await bank.settled(by_prompt))["content"]
    assert bank.executed == ["pay(5)"] * 3


async def test_an_administrator_is_bound_by_it_too(bank: Bank) -> None:
    run = await bank.create("root", "pay")
    async with bank.nothing_changes():
        await is_refused(bank, await bank.answer("root", run))
    assert (await bank.answer("alice", run)).status_code == 200


async def test_a_user_is_the_same_with_a_token_and_with_a_jwt(bank: Bank) -> None:
    run = await bank.create(jwt_of("alice"), "pay")
    async with bank.nothing_changes():
        await is_refused(bank, await bank.answer("alice", run))
        await is_refused(bank, await bank.answer(jwt_of("alice", ADMIN), run))
    assert (await bank.answer(jwt_of("bob"), run)).status_code == 200


async def test_a_token_that_acts_for_others_decides_only_for_somebody(bank: Bank) -> None:
    run, sold = await bank.create("alice", "pay"), await bank.create("alice", "sell")
    async with bank.nothing_changes():
        assert "say who you are" in bank.refusal(await bank.answer("service", run), 403)
        assert "say who you are" in bank.refusal(await bank.resume("service", run, "no"), 403)
        await is_refused(bank, await bank.answer("service", run, form={"user_id": "alice"}))
        # Another user's run is not there for the one it names.
        bank.refusal(await bank.answer("service", run, form={"user_id": "bob"}), 404)
        await is_refused(bank, await bank.resolve("service", sold, resolved_by="alice"))
        assert "say who you are" in bank.refusal(await bank.resolve("service", sold), 403)
    # It is trusted to know whom it acts for.
    assert (await bank.resolve("service", sold, resolved_by="bob")).json()["resolved_by"] == "bob"


async def test_a_run_that_nobody_is_known_to_have_started_can_only_be_cancelled(bank: Bank) -> None:
    run, sold = await bank.create("service", "pay"), await bank.create("service", "sell")
    assert run.get("user_id") is None
    async with bank.nothing_changes():
        for who in ("service", "alice", "root"):
            for confirmed in (True, False):
                refused = await bank.answer(who, run, confirmed=confirmed)
                assert "nobody knows who started the run" in bank.refusal(refused, 403)
        assert "nobody knows" in bank.refusal(await bank.resolve("root", sold), 403)
    cancelled = await bank.client.post(f"/agents/bank/runs/{run['run_id']}/cancel", headers=bank.headers("alice"))
    assert cancelled.status_code == 200
    assert (await bank.get(run))["status"] == "CANCELLED"


async def test_only_the_named_users_and_holders_of_a_named_scope_decide(bank: Bank) -> None:
    run = await bank.create("alice", "lend")
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
    async with bank.nothing_changes():
        for stranger in strangers:
            for confirmed in (True, False):
                refused = await bank.answer(stranger, run, confirmed=confirmed)
                assert "is for others to decide" in bank.refusal(refused, 403)
            assert "is for others" in bank.refusal(await bank.resume(stranger, run, "No."), 403)
        assert "is for others" in bank.refusal(await bank.answer("service", run), 403)
    for decider in ("bob", jwt_of("bob"), "carol", jwt_of("dave", "finance:approve"), "root"):
        run = await bank.create("alice", "lend")
        assert (await bank.answer(decider, run)).status_code == 200
        assert (await bank.settled(run))["status"] == "COMPLETED"
    assert bank.executed == ["lend(5)"] * 5


async def test_whoever_is_called_like_a_scope_does_not_have_it(bank: Bank) -> None:
    run = await bank.create("alice", "lend")
    async with bank.nothing_changes():
        for stranger in ("finance:approve", "scope:finance:approve", "user:bob"):
            assert "is for others" in bank.refusal(await bank.answer(jwt_of(stranger), run), 403)


async def test_where_nobody_is_asked_who_they_are_everybody_has_every_scope(database_url: str, tmp_path: Path) -> None:
    async with at_bank(database_url, tmp_path, dev=True) as bank:
        run = await bank.create("nobody", "lend")
        assert (await bank.answer("nobody", run)).status_code == 200


async def test_users_see_who_may_decide_only_what_they_may_see(database_url: str, tmp_path: Path) -> None:
    async with at_bank(database_url, tmp_path, user_isolation=True) as bank:
        run, sold = await bank.create("alice", "lend"), await bank.create("alice", "sell")
        async with bank.nothing_changes():
            # To be named as an approver shows nobody another user's run.
            bank.refusal(await bank.answer("bob", run), 404)
            for who in ("rival", "garbage"):
                response = await bank.resolve(who, sold)
                assert response.status_code == (404 if who == "rival" else 401)
        # Approvals are there for whoever decides them, and Codegen's API knows members only.
        assert (await bank.resolve("bob", sold)).status_code == 200
        assert (await bank.resume("bob", run, tools=said(run))).status_code == 200
