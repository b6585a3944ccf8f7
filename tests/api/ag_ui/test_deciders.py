"""Who may decide over AG-UI: the same people as anywhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.ag_ui import AgUiThread, no, yes
from tests.support.server import Server, served

DEPLOY = ("deploy", {"env": "prod"})


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """Serve people with tokens."""
    async with served(tmp_path, tokens=True, user_isolation=False) as server:
        yield server


def thread_of(server: Server, who: str) -> AgUiThread:
    if who not in server.tokens:
        return AgUiThread(server.by_jwt(who, "agents:run", "agents:read"))
    return AgUiThread(server.user(who))


async def test_what_an_administrator_has_to_approve_only_an_administrator_approves(server: Server) -> None:
    dave, root = thread_of(server, "dave"), thread_of(server, "root")
    (interrupt,) = (await dave.say([DEPLOY])).interrupts
    refused = await dave.send(resume=[yes(interrupt)])
    assert (refused.types, refused.error.code) == (["RUN_ERROR"], "forbidden")
    assert server.executed == []
    assert (await root.send(resume=[yes(interrupt)])).outcome == "success"
    assert server.executed == ["deploy(prod)"]
    (approval,) = await server.approvals()
    assert (approval["status"], approval["resolved_by"]) == ("approved", "root")


async def test_a_resume_goes_on_with_what_an_administrator_has_decided(server: Server) -> None:
    alice = thread_of(server, "alice")
    (interrupt,) = (await alice.say([DEPLOY])).interrupts
    run_id = (await server.approvals())[0]["run_id"]
    await server.resolve({"run_id": run_id})
    assert (await alice.send(resume=[yes(interrupt)])).outcome == "success"
    assert server.executed == ["deploy(prod)"]


async def test_cancelling_what_an_administrator_has_rejected_cancels_no_run(server: Server) -> None:
    alice = thread_of(server, "alice")
    (interrupt,) = (await alice.say([DEPLOY])).interrupts
    await server.resolve({"run_id": (await server.approvals())[0]["run_id"]}, status="rejected")
    late = await alice.send(resume=[yes(interrupt)])
    assert late.error.code == "already_decided"
    rejected = await alice.send(resume=[no(interrupt)])
    assert (rejected.outcome, list(rejected.results)) == ("success", [interrupt.tool_call_id])
    assert server.executed == []


async def test_what_an_administrator_has_approved_is_not_edited_any_more(server: Server) -> None:
    alice = thread_of(server, "alice")
    (interrupt,) = (await alice.say([("sign", {"amount": 5})])).interrupts
    await server.resolve({"run_id": (await server.approvals())[0]["run_id"]})
    edited = await alice.send(resume=[yes(interrupt, approved=True, editedArgs={"amount": 500})])
    assert edited.error.code == "already_decided"
    assert (await alice.send(resume=[yes(interrupt, approved=True, editedArgs={"amount": 5})])).outcome == "success"
    assert server.executed == ["sign(5)"]


async def test_a_vote_that_is_not_the_last_one_ends_in_the_same_interrupt(server: Server) -> None:
    alice, bob = thread_of(server, "alice"), thread_of(server, "bob")
    (interrupt,) = (await alice.say([("move", {"amount": 5})])).interrupts
    assert interrupt.metadata["unpause"]["quorum"] == 2
    first = await alice.send(resume=[yes(interrupt)])
    (still,) = first.interrupts
    assert (still.id, still.metadata["unpause"]["votes"]) == (interrupt.id, ["alice"])
    assert first.calls == []
    again = await alice.send(resume=[yes(interrupt)])
    shown = ["RUN_STARTED", "STATE_SNAPSHOT", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
    assert again.types == shown, "a vote that is sent again is harmless"
    assert (await bob.send(resume=[yes(interrupt)])).outcome == "success"
    assert server.executed == ["move(5)"]


async def test_one_who_may_not_decide_is_told_so_and_changes_nothing(server: Server) -> None:
    alice, bob = thread_of(server, "alice"), thread_of(server, "bob")
    (interrupt,) = (await alice.say([("transfer", {"amount": 5})])).interrupts
    refused = await alice.send(resume=[yes(interrupt)])
    assert (refused.types, refused.error.code) == (["RUN_ERROR"], "forbidden")
    assert "cannot be decided by the user who started the run" in refused.error.message
    assert (await bob.send(resume=[yes(interrupt)])).outcome == "success"


async def test_another_organization_finds_neither_thread_nor_run(server: Server) -> None:
    alice, rival = thread_of(server, "alice"), thread_of(server, "rival")
    (interrupt,) = (await alice.say([DEPLOY], runId="r1")).interrupts
    foreign = await rival.send(resume=[yes(interrupt)])
    assert foreign.error.code == "unknown_interrupt"
    assert (await rival.caller.get("/agents/toolbox/ag-ui/r1/events")).status_code == 404
    # The same names are its own there.
    assert (await rival.say("hello", runId="r1")).outcome == "success"
    assert server.executed == []
