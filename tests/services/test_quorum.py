"""Where a call takes several people's yes: they are counted once each, on whichever way they come, and kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.agents import plan
from tests.support.bank import CODEGEN, Bank, JsonObject, at_bank
from tests.support.frames import read_frames
from tests.support.gates import Gates


@pytest.fixture
async def bank(database_url: str, tmp_path: Path) -> AsyncIterator[Bank]:
    """Serve the bank."""
    async with at_bank(database_url, tmp_path) as served:
        yield served


def said(run: JsonObject, *, confirmed: bool = True) -> list[JsonObject]:
    """Return the least that answers all calls of the run."""
    return [{"tool_call_id": tool["tool_call_id"], "confirmed": confirmed} for tool in run["tools"]]


async def votes_of(bank: Bank, run: JsonObject) -> list[str]:
    """Return who has said yes, as AgentOS's API shows it."""
    (requirement,) = (await bank.get(run))["requirements"]
    assert requirement["quorum"] == 2
    return list(requirement["votes"])


async def by_codegen(bank: Bank, run: JsonObject, rest: str = "") -> dict[str, Any]:
    """Return the run, or its log, as Codegen's API shows it."""
    response = await bank.client.get(f"{CODEGEN}/{await bank.key_of(run)}{rest}", headers=bank.headers("root"))
    assert response.status_code == 200, response.text
    return dict(response.json())


async def test_the_first_yes_leaves_the_run_paused_and_is_shown_in_both_apis(bank: Bank) -> None:
    run = await bank.create("alice", "move")
    assert await votes_of(bank, run) == []
    assert (await by_codegen(bank, run))["result"] == (
        "Waiting for a confirmation of move(amount=5). It takes 2 people."
    )

    response = await bank.answer("bob", run)
    assert response.status_code == 200
    (requirement,) = response.json()["requirements"]
    assert (response.json()["status"], requirement["votes"]) == ("PAUSED", ["bob"])
    assert "confirmation" not in requirement
    (tool,) = response.json()["tools"]
    assert (tool["requires_confirmation"], tool["confirmed"]) == (True, None)
    assert bank.executed == []

    shown = await by_codegen(bank, run)
    awaited = "Waiting for a confirmation of move(amount=5). It takes 2 people so far: bob."
    assert (shown["status"], shown["result"]) == ("PAUSED", awaited)
    entry = (await by_codegen(bank, run, "/logs"))["logs"][-1]
    assert entry["thought"] == awaited
    assert entry["observation"]["requirements"][0]["votes"] == ["bob"]
    frames = read_frames(
        (await bank.client.get(f"/agents/bank/runs/{run['run_id']}/events", headers=bank.headers("bob"))).text
    )
    assert frames[-1].data["requirements"][0]["votes"] == ["bob"]


async def test_the_second_persons_yes_decides_and_a_repeated_one_does_not(bank: Bank) -> None:
    run = await bank.create("alice", "move")
    assert (await bank.answer("bob", run)).status_code == 200
    async with bank.nothing_changes():
        assert "confirmed by bob before: it takes 2 people" in bank.refusal(await bank.answer("bob", run), 409)
        assert "by bob before" in bank.refusal(await bank.resume("bob", run, tools=said(run)), 409)
        # A program that acts for nobody is nobody's voice.
        assert "say who you are" in bank.refusal(await bank.answer("service", run), 403)
    # The second voice comes through the other API.
    assert (await bank.resume("alice", run, tools=said(run))).status_code == 200
    assert (await bank.settled(run))["status"] == "COMPLETED"
    assert bank.executed == ["move(5)"]
    assert await votes_of(bank, run) == ["bob", "alice"]
    (told,) = [
        entry["tool_input"]["answers"]
        for entry in (await by_codegen(bank, run, "/logs"))["logs"]
        if "answers" in (entry["tool_input"] or {})
    ]
    assert (told[0]["votes"], told[0]["by"]) == (["bob", "alice"], "alice")


async def test_one_no_is_enough_even_of_somebody_who_said_yes_before(bank: Bank) -> None:
    first, second, third = [await bank.create("alice", "move") for _ in range(3)]
    assert (await bank.answer("bob", first, confirmed=False, confirmation_note="No.")).status_code == 200
    for run in (second, third):
        assert (await bank.answer("bob", run)).status_code == 200
    assert (await bank.answer("bob", second, confirmed=False, confirmation_note="No.")).status_code == 200
    assert (await bank.resume("carol", third, "No.")).status_code == 200
    for run in (first, second, third):
        assert "No." in (await bank.settled(run))["content"]
    assert bank.executed == []


async def test_of_eight_yeses_of_two_people_at_once_two_count_and_the_call_runs_once(bank: Bank) -> None:
    run = await bank.create("alice", "move")
    tools = said(run)
    answers = [bank.continue_with(who, run, tools, background="true") for who in ("bob", "carol") for _ in range(4)]
    statuses = Counter(response.status_code for response in await asyncio.gather(*answers))
    await bank.settled(run)
    assert statuses[409] == 6, statuses
    assert sorted(await votes_of(bank, run)) == ["bob", "carol"]
    assert bank.executed == ["move(5)"]
    trail = [(entry["action"], entry["actor"]) for entry in await bank.audit(run_id=run["run_id"])]
    assert sorted(action for action, _ in trail) == ["requirement.answered", "requirement.voted"]
    assert sorted(actor for _, actor in trail) == ["bob", "carol"]


async def test_an_approval_stays_pending_until_enough_have_approved_it(bank: Bank) -> None:
    run = await bank.create("alice", "close")
    first = await bank.resolve("bob", run)
    assert (first.status_code, first.json()["status"], first.json()["resolved_by"]) == (200, "pending", None)
    assert first.json()["requirements"][0]["votes"] == ["bob"]
    assert (await by_codegen(bank, run))["result"] == (
        "Waiting for an administrator to approve close(amount=5). It takes 2 people so far: bob."
    )
    async with bank.nothing_changes():
        assert "by bob before" in bank.refusal(await bank.resolve("bob", run), 409)
        for who in ("alice", "carol"):
            bank.refusal(await bank.answer(who, run), 403)
            bank.refusal(await bank.resume(who, run, "yes"), 403)
    second = await bank.resolve("carol", run)
    assert (second.json()["status"], second.json()["resolved_by"]) == ("approved", "carol")
    async with bank.nothing_changes():
        bank.refusal(await bank.resolve("root", run, "rejected"), 409)
    assert (await bank.answer("alice", run)).status_code == 200
    await bank.settled(run)
    assert bank.executed == ["close(5)"]


async def test_of_eight_approvals_of_two_people_at_once_two_count(bank: Bank) -> None:
    run = await bank.create("alice", "close")
    answers = await asyncio.gather(*(bank.resolve(who, run) for who in ("bob", "carol") for _ in range(4)))
    assert Counter(response.status_code for response in answers) == {200: 2, 409: 6}
    assert (await bank.approval_of(run))["status"] == "approved"
    assert sorted(await votes_of(bank, run)) == ["bob", "carol"]


async def test_an_approval_that_one_has_given_is_rejected_by_another(bank: Bank) -> None:
    run = await bank.create("alice", "close")
    assert (await bank.resolve("bob", run)).status_code == 200
    rejected = await bank.resolve("carol", run, "rejected", resolution_data={"note": "No."})
    assert rejected.json()["status"] == "rejected"
    assert (await bank.answer("alice", run)).status_code == 200
    assert "No." in (await bank.settled(run))["content"]
    assert bank.executed == []


async def test_a_repeated_request_with_a_key_is_one_voice_and_gets_its_answer_again(bank: Bank) -> None:
    run, approved = await bank.create("alice", "move"), await bank.create("alice", "close")
    tools = said(run)
    first = await bank.continue_with("bob", run, tools, key="once")
    resolved = await bank.resolve("bob", approved, key="once more")
    async with bank.nothing_changes():
        again = await bank.continue_with("bob", run, tools, key="once")
        assert (again.status_code, again.text) == (first.status_code, first.text)
        again = await bank.resolve("bob", approved, key="once more")
        assert (again.status_code, again.text) == (200, resolved.text)
    assert await votes_of(bank, run) == await votes_of(bank, approved) == ["bob"]
    # Another one's same key is another key.
    assert (await bank.continue_with("carol", run, tools, key="once")).status_code == 200
    assert sorted(await votes_of(bank, run)) == ["bob", "carol"]


async def test_time_decides_against_a_call_that_has_not_enough_voices(bank: Bank) -> None:
    moved, closed, dropped = [await bank.create("alice", tool) for tool in ("move", "close", "drop")]
    for run in (moved, dropped):
        assert (await bank.answer("bob", run)).status_code == 200
    assert (await bank.resolve("bob", closed)).status_code == 200
    bank.clock.move(61)
    assert await bank.application.expiry.sweep() == 3
    # Somebody did, and that is what the model reads.
    assert "1 of 2 people confirmed the call in time" in (await bank.settled(moved))["content"]
    assert "1 of 2 people confirmed the call in time" in (await bank.settled(closed))["content"]
    assert (await bank.get(dropped))["status"] == "CANCELLED"
    assert (await bank.approval_of(closed))["status"] == "expired"
    assert bank.executed == []
    async with bank.nothing_changes():
        for run in (moved, dropped):
            bank.refusal(await bank.continue_with("carol", run, said(run)), 409)
        bank.refusal(await bank.resolve("carol", closed), 409)


async def test_voices_for_one_call_count_for_no_other(bank: Bank) -> None:
    message = plan([("move", {"amount": 5})], [("move", {"amount": 5})])
    run = await bank.create("alice", message=message)
    for who in ("bob", "carol"):
        assert (await bank.answer(who, run)).status_code == 200
    await bank.settled(run)
    assert bank.executed == ["move(5)"]
    # The agent asks for the same once more: bob's first word, sent again, is none about that.
    bank.refusal(await bank.continue_with("bob", run, said(run)), 409)
    assert (await bank.answer("bob", run)).status_code == 200
    assert (await bank.settled(run))["status"] == "PAUSED"
    assert bank.executed == ["move(5)"]
    # Nor do they for a run that does the same.
    cancelled = await bank.client.post(f"/agents/bank/runs/{run['run_id']}/cancel", headers=bank.headers("alice"))
    assert cancelled.status_code == 200
    again = await bank.create("alice", "move", session_id=run["session_id"])
    assert await votes_of(bank, again) == []


async def test_voices_survive_a_restart(database_url: str, tmp_path: Path) -> None:
    async with at_bank(database_url, tmp_path) as bank:
        moved, closed = await bank.create("alice", "move"), await bank.create("alice", "close")
        assert (await bank.answer("bob", moved)).status_code == 200
        assert (await bank.resolve("bob", closed)).status_code == 200
    async with at_bank(database_url, tmp_path, bank) as bank:
        assert await votes_of(bank, moved) == await votes_of(bank, closed) == ["bob"]
        bank.refusal(await bank.answer("bob", moved), 409)
        bank.refusal(await bank.resolve("bob", closed), 409)
        assert (await bank.answer("carol", moved)).status_code == 200
        assert (await bank.resolve("carol", closed)).json()["status"] == "approved"
        await bank.settled(moved)
        assert bank.executed == ["move(5)"]


async def test_a_call_in_doubt_is_decided_by_as_many_and_the_same_people_as_before(
    database_url: str, tmp_path: Path
) -> None:
    gates = Gates("hold")
    async with at_bank(database_url, tmp_path, gates=gates, shutdown_grace_seconds=0.0) as bank:
        run = await bank.create("alice", "hold")
        assert (await bank.answer("bob", run)).status_code == 200
        assert (await bank.answer("carol", run, form={"background": "true"})).status_code == 202
        async with asyncio.timeout(60):
            await gates.reached("hold")
    gates.open("hold")
    async with at_bank(database_url, tmp_path, bank, gates=gates) as bank:
        doubtful = (await bank.settled(run))["requirements"][-1]
        assert (doubtful["in_doubt"], doubtful["quorum"], doubtful["votes"]) == (True, 2, [])
        assert "may already have run" in (await by_codegen(bank, run))["result"]
        async with bank.nothing_changes():
            bank.refusal(await bank.answer("alice", run), 403)
            bank.refusal(await bank.resume("alice", run, "It has run."), 403)
        assert (await bank.answer("bob", run)).status_code == 200
        assert (await bank.get(run))["status"] == "PAUSED"
        assert (await bank.answer("carol", run)).status_code == 200
        assert (await bank.settled(run))["status"] == "COMPLETED"
        assert bank.executed == ["hold(5)"]


async def test_to_delete_an_approval_is_a_no_as_long_as_the_call_waits(bank: Bank) -> None:
    closed, granted = await bank.create("alice", "close"), await bank.create("alice", "grant")
    assert (await bank.resolve("bob", closed)).status_code == 200
    assert (await bank.resolve("bob", granted)).json()["status"] == "approved"
    for run in (closed, granted):
        approval = await bank.approval_of(run)
        deleted = await bank.client.delete(f"/approvals/{approval['id']}", headers=bank.headers("carol"))
        assert deleted.status_code == 204, deleted.text
        assert (await bank.answer("alice", run)).status_code == 200
        assert "deleted by an administrator" in (await bank.settled(run))["content"]
    assert bank.executed == []
    trail = [entry for entry in await bank.audit() if entry["action"] == "approval.deleted"]
    assert [(entry["actor"], entry["decision"]) for entry in trail] == [("carol", "rejected")] * 2


async def test_several_people_approve_a_call_that_is_run_elsewhere_before_its_result_comes(bank: Bank) -> None:
    run = await bank.create("alice", "mint")
    (tool,) = run["tools"]
    assert (tool["external_execution_required"], tool["approval_type"]) == (True, "required")
    brought = [{"tool_call_id": tool["tool_call_id"], "result": "minted"}]
    async with bank.nothing_changes():
        bank.refusal(await bank.continue_with("bob", run, brought), 403)
        bank.refusal(await bank.resume("bob", run, "minted"), 403)
        refused = await bank.resolve("bob", run, resolution_data={"result": "minted"})
        assert "its result comes when the run is continued" in bank.refusal(refused, 400)
    assert (await bank.resolve("bob", run)).json()["status"] == "pending"
    assert (await bank.resolve("carol", run)).json()["status"] == "approved"
    # The voices were about the call: who brings its result need not be a third one.
    assert (await bank.continue_with("bob", run, brought)).status_code == 200
    assert (await bank.settled(run))["content"] == "Done. mint: minted."
