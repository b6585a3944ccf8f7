"""Where a call takes several people's yes: they are counted once each, on whichever way they come, and kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.caller import CODEGEN, refusal
from tests.support.frames import read_frames
from tests.support.gates import Gates
from tests.support.server import Server, served
from tests.support.toolbox import JsonObject, plan


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with served(tmp_path, tokens=True, user_isolation=False) as server:
        yield server


@pytest.fixture
async def on_both(database_url: str, tmp_path: Path) -> AsyncIterator[Server]:
    """Serve on both databases: the rows that several lock at once, and the time that counts."""
    async with served(tmp_path, tokens=True, user_isolation=False, database_url=database_url) as server:
        yield server


def sent(run: JsonObject, *, confirmed: bool = True) -> list[JsonObject]:
    """Return the least that answers all calls of the run."""
    return [{"tool_call_id": tool["tool_call_id"], "confirmed": confirmed} for tool in run["tools"]]


async def votes_of(server: Server, run: JsonObject) -> list[str]:
    """Return who has said yes, as AgentOS's API shows it."""
    (requirement,) = (await server.read(run))["requirements"]
    assert requirement["quorum"] == 2
    return list(requirement["votes"])


async def by_codegen(server: Server, run: JsonObject, rest: str = "") -> dict[str, Any]:
    """Return the run, or its log, as Codegen's API shows it."""
    response = await server.user("root").get(f"{CODEGEN}/{await server.key_of(run)}{rest}")
    assert response.status_code == 200, response.text
    return dict(response.json())


async def test_the_first_yes_leaves_the_run_paused_and_is_shown_in_both_apis(server: Server) -> None:
    run = await server.user("alice").run_tools("move")
    assert await votes_of(server, run) == []
    assert (await by_codegen(server, run))["result"] == (
        "Waiting for a confirmation of move(amount=5). It takes 2 people."
    )

    response = await server.user("bob").answer(run)
    assert response.status_code == 200
    (requirement,) = response.json()["requirements"]
    assert (response.json()["status"], requirement["votes"]) == ("PAUSED", ["bob"])
    assert "confirmation" not in requirement
    (tool,) = response.json()["tools"]
    assert (tool["requires_confirmation"], tool["confirmed"]) == (True, None)
    assert server.executed == []

    shown = await by_codegen(server, run)
    awaited = "Waiting for a confirmation of move(amount=5). It takes 2 people so far: bob."
    assert (shown["status"], shown["result"]) == ("PAUSED", awaited)
    entry = (await by_codegen(server, run, "/logs"))["logs"][-1]
    assert entry["thought"] == awaited
    assert entry["observation"]["requirements"][0]["votes"] == ["bob"]
    frames = read_frames((await server.user("bob").get(f"/agents/toolbox/runs/{run['run_id']}/events")).text)
    assert frames[-1].data["requirements"][0]["votes"] == ["bob"]


async def test_the_second_persons_yes_decides_and_a_repeated_one_does_not(server: Server) -> None:
    run = await server.user("alice").run_tools("move")
    assert (await server.user("bob").answer(run)).status_code == 200
    async with server.nothing_changes():
        assert "already confirmed by bob: it needs 2 people" in refusal(await server.user("bob").answer(run), 409)
        assert "already confirmed by bob" in refusal(await server.user("bob").resume(run, tools=sent(run)), 409)
        # A program that acts for nobody is nobody's voice.
        assert "the request names no user" in refusal(await server.user("service").answer(run), 403)
    # The second voice comes through the other API.
    assert (await server.user("alice").resume(run, tools=sent(run))).status_code == 200
    assert (await server.settled(run))["status"] == "COMPLETED"
    assert server.executed == ["move(5)"]
    assert await votes_of(server, run) == ["bob", "alice"]
    (reported,) = [
        entry["tool_input"]["answers"]
        for entry in (await by_codegen(server, run, "/logs"))["logs"]
        if "answers" in (entry["tool_input"] or {})
    ]
    assert (reported[0]["votes"], reported[0]["by"]) == (["bob", "alice"], "alice")


async def test_one_no_is_enough_even_of_somebody_who_said_yes_before(server: Server) -> None:
    first, second, third = [await server.user("alice").run_tools("move") for _ in range(3)]
    assert (await server.user("bob").answer(first, confirmed=False, confirmation_note="No.")).status_code == 200
    for run in (second, third):
        assert (await server.user("bob").answer(run)).status_code == 200
    assert (await server.user("bob").answer(second, confirmed=False, confirmation_note="No.")).status_code == 200
    assert (await server.user("carol").resume(third, "No.")).status_code == 200
    for run in (first, second, third):
        assert "No." in (await server.settled(run))["content"]
    assert server.executed == []


@pytest.mark.sql
async def test_of_eight_yeses_of_two_people_at_once_two_count_and_the_call_runs_once(on_both: Server) -> None:
    run = await on_both.user("alice").run_tools("move")
    tools = sent(run)
    answers = [
        on_both.user(who).post_continue(run, tools, background="true") for who in ("bob", "carol") for _ in range(4)
    ]
    statuses = Counter(response.status_code for response in await asyncio.gather(*answers))
    await on_both.settled(run)
    assert statuses[409] == 6, statuses
    assert sorted(await votes_of(on_both, run)) == ["bob", "carol"]
    assert on_both.executed == ["move(5)"]
    trail = [(entry["action"], entry["actor"]) for entry in await on_both.audit(run_id=run["run_id"])]
    assert sorted(action for action, _ in trail) == ["requirement.answered", "requirement.voted"]
    assert sorted(actor for _, actor in trail) == ["bob", "carol"]


async def test_an_approval_stays_pending_until_enough_have_approved_it(server: Server) -> None:
    run = await server.user("alice").run_tools("close")
    first = await server.user("bob").resolve(run)
    assert (first.status_code, first.json()["status"], first.json()["resolved_by"]) == (200, "pending", None)
    assert first.json()["requirements"][0]["votes"] == ["bob"]
    assert (await by_codegen(server, run))["result"] == (
        "Waiting for an administrator to approve close(amount=5). It takes 2 people so far: bob."
    )
    async with server.nothing_changes():
        assert "already confirmed by bob" in refusal(await server.user("bob").resolve(run), 409)
        for who in ("alice", "carol"):
            refusal(await server.user(who).answer(run), 403)
            refusal(await server.user(who).resume(run, "yes"), 403)
    second = await server.user("carol").resolve(run)
    assert (second.json()["status"], second.json()["resolved_by"]) == ("approved", "carol")
    async with server.nothing_changes():
        refusal(await server.user("root").resolve(run, "rejected"), 409)
    assert (await server.user("alice").answer(run)).status_code == 200
    await server.settled(run)
    assert server.executed == ["close(5)"]


@pytest.mark.sql
async def test_of_eight_approvals_of_two_people_at_once_two_count(on_both: Server) -> None:
    run = await on_both.user("alice").run_tools("close")
    answers = await asyncio.gather(*(on_both.user(who).resolve(run) for who in ("bob", "carol") for _ in range(4)))
    assert Counter(response.status_code for response in answers) == {200: 2, 409: 6}
    assert (await on_both.approval_of(run))["status"] == "approved"
    assert sorted(await votes_of(on_both, run)) == ["bob", "carol"]


async def test_an_approval_that_one_has_given_is_rejected_by_another(server: Server) -> None:
    run = await server.user("alice").run_tools("close")
    assert (await server.user("bob").resolve(run)).status_code == 200
    rejected = await server.user("carol").resolve(run, "rejected", resolution_data={"note": "No."})
    assert rejected.json()["status"] == "rejected"
    assert (await server.user("alice").answer(run)).status_code == 200
    assert "No." in (await server.settled(run))["content"]
    assert server.executed == []


async def test_a_repeated_request_with_a_key_is_one_voice_and_gets_its_answer_again(server: Server) -> None:
    run, approved = await server.user("alice").run_tools("move"), await server.user("alice").run_tools("close")
    tools = sent(run)
    first = await server.user("bob").post_continue(run, tools, key="once")
    resolved = await server.user("bob").resolve(approved, key="once more")
    async with server.nothing_changes():
        again = await server.user("bob").post_continue(run, tools, key="once")
        assert (again.status_code, again.text) == (first.status_code, first.text)
        again = await server.user("bob").resolve(approved, key="once more")
        assert (again.status_code, again.text) == (200, resolved.text)
    assert await votes_of(server, run) == await votes_of(server, approved) == ["bob"]
    # Another one's same key is another key.
    assert (await server.user("carol").post_continue(run, tools, key="once")).status_code == 200
    assert sorted(await votes_of(server, run)) == ["bob", "carol"]


async def test_time_decides_against_a_call_that_has_not_enough_voices(server: Server) -> None:
    moved, closed, dropped = [await server.user("alice").run_tools(tool) for tool in ("move", "close", "drop")]
    for run in (moved, dropped):
        assert (await server.user("bob").answer(run)).status_code == 200
    assert (await server.user("bob").resolve(closed)).status_code == 200
    server.clock.move(61)
    assert await server.application.expiry.sweep() == 3
    # Somebody did, and that is what the model reads.
    assert "1 of 2 people confirmed the call in time" in (await server.settled(moved))["content"]
    assert "1 of 2 people confirmed the call in time" in (await server.settled(closed))["content"]
    assert (await server.read(dropped))["status"] == "CANCELLED"
    assert (await server.approval_of(closed))["status"] == "expired"
    assert server.executed == []
    async with server.nothing_changes():
        for run in (moved, dropped):
            refusal(await server.user("carol").post_continue(run, sent(run)), 409)
        refusal(await server.user("carol").resolve(closed), 409)


async def test_voices_for_one_call_count_for_no_other(server: Server) -> None:
    message = plan([("move", {"amount": 5})], [("move", {"amount": 5})])
    run = await server.user("alice").create(message)
    for who in ("bob", "carol"):
        assert (await server.user(who).answer(run)).status_code == 200
    await server.settled(run)
    assert server.executed == ["move(5)"]
    # The agent asks for the same once more: bob's first word, sent again, is none about that.
    refusal(await server.user("bob").post_continue(run, sent(run)), 409)
    assert (await server.user("bob").answer(run)).status_code == 200
    assert (await server.settled(run))["status"] == "PAUSED"
    assert server.executed == ["move(5)"]
    # Nor do they for a run that does the same.
    cancelled = await server.user("alice").post(f"/agents/toolbox/runs/{run['run_id']}/cancel")
    assert cancelled.status_code == 200
    again = await server.user("alice").run_tools("move", session_id=run["session_id"])
    assert await votes_of(server, again) == []


async def test_voices_survive_a_restart(tmp_path: Path) -> None:
    async with served(tmp_path, tokens=True, user_isolation=False) as server:
        moved, closed = (
            await server.user("alice").run_tools("move"),
            await server.user("alice").run_tools("close"),
        )
        assert (await server.user("bob").answer(moved)).status_code == 200
        assert (await server.user("bob").resolve(closed)).status_code == 200
    async with served(tmp_path, user_isolation=False, tokens=server.tokens, clock=server.clock) as server:
        assert await votes_of(server, moved) == await votes_of(server, closed) == ["bob"]
        refusal(await server.user("bob").answer(moved), 409)
        refusal(await server.user("bob").resolve(closed), 409)
        assert (await server.user("carol").answer(moved)).status_code == 200
        assert (await server.user("carol").resolve(closed)).json()["status"] == "approved"
        await server.settled(moved)
        assert server.executed == ["move(5)"]


async def test_a_call_in_doubt_is_decided_by_as_many_and_the_same_people_as_before(tmp_path: Path) -> None:
    gates = Gates("hold_amount")
    async with served(tmp_path, tokens=True, user_isolation=False, gates=gates, shutdown_grace_seconds=0.0) as server:
        run = await server.user("alice").run_tools("hold_amount")
        assert (await server.user("bob").answer(run)).status_code == 200
        assert (await server.user("carol").answer(run, form={"background": "true"})).status_code == 202
        async with asyncio.timeout(60):
            await gates.reached("hold_amount")
    gates.open("hold_amount")
    async with served(tmp_path, user_isolation=False, tokens=server.tokens, clock=server.clock, gates=gates) as server:
        doubtful = (await server.settled(run))["requirements"][-1]
        assert (doubtful["in_doubt"], doubtful["quorum"], doubtful["votes"]) == (True, 2, [])
        assert "may already have run" in (await by_codegen(server, run))["result"]
        async with server.nothing_changes():
            refusal(await server.user("alice").answer(run), 403)
            refusal(await server.user("alice").resume(run, "It has run."), 403)
        assert (await server.user("bob").answer(run)).status_code == 200
        assert (await server.read(run))["status"] == "PAUSED"
        assert (await server.user("carol").answer(run)).status_code == 200
        assert (await server.settled(run))["status"] == "COMPLETED"
        assert server.executed == ["hold_amount(5)"]


async def test_to_delete_an_approval_is_a_no_as_long_as_the_call_waits(server: Server) -> None:
    closed, granted = (
        await server.user("alice").run_tools("close"),
        await server.user("alice").run_tools("promote"),
    )
    assert (await server.user("bob").resolve(closed)).status_code == 200
    assert (await server.user("bob").resolve(granted)).json()["status"] == "approved"
    for run in (closed, granted):
        approval = await server.approval_of(run)
        deleted = await server.user("carol").delete(f"/approvals/{approval['id']}")
        assert deleted.status_code == 204, deleted.text
        assert (await server.user("alice").answer(run)).status_code == 200
        assert "deleted by an administrator" in (await server.settled(run))["content"]
    assert server.executed == []
    trail = [entry for entry in await server.audit() if entry["action"] == "approval.deleted"]
    assert [(entry["actor"], entry["decision"]) for entry in trail] == [("carol", "rejected")] * 2


async def test_several_people_approve_a_call_that_is_run_elsewhere_before_its_result_comes(server: Server) -> None:
    run = await server.user("alice").run_tools("mint")
    (tool,) = run["tools"]
    assert (tool["external_execution_required"], tool["approval_type"]) == (True, "required")
    brought = [{"tool_call_id": tool["tool_call_id"], "result": "minted"}]
    async with server.nothing_changes():
        refusal(await server.user("bob").post_continue(run, brought), 403)
        refusal(await server.user("bob").resume(run, "minted"), 403)
        refused = await server.user("bob").resolve(run, resolution_data={"result": "minted"})
        assert "its result comes when the run is continued" in refusal(refused, 400)
    assert (await server.user("bob").resolve(run)).json()["status"] == "pending"
    assert (await server.user("carol").resolve(run)).json()["status"] == "approved"
    # The voices were about the call: who brings its result need not be a third one.
    assert (await server.user("bob").post_continue(run, brought)).status_code == 200
    assert (await server.settled(run))["content"] == "Done. mint: minted."
