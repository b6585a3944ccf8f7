"""Pausing a run on request, and ending it: ban, remove-from-pr, and unban, which does nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.caller import CODEGEN, body_of, confirmed, refusal
from tests.support.gates import Gates
from tests.support.server import Server, served
from tests.support.toolbox import calls, plan

DELETE = ("delete_file", {"path": "/a"})
NOT_FOUND = {"message": "Agent run not found.", "status_code": 404}
UNFIT_BODIES: list[object] = [{}, {"agent_run_id": None}, {"agent_run_id": "x"}, [], {"agent_run_id": 1.5}]
ROUTES = ("pause", "ban", "unban", "remove-from-pr")


async def test_a_running_run_is_paused_before_its_next_call_and_sent_on_with_words(tmp_path: Path) -> None:
    gates = Gates("think")
    async with served(tmp_path, gates=gates) as server:
        made = (await server.post(CODEGEN, {"prompt": calls("note")})).json()
        await gates.reached("think")
        response = await server.post(f"{CODEGEN}/pause", {"agent_run_id": made["id"]})
        assert (response.status_code, response.json()) == (200, made)
        gates.open("think")
        paused = await server.settled_by_codegen(made["id"])
        assert (paused["status"], server.executed) == ("PAUSED", [])
        assert paused["result"] == "The run was paused on request. Resume it with a prompt to send it on."
        response = await server.resume(made["id"], "go on")
        assert (response.status_code, response.json()["status"]) == (200, "ACTIVE")
        done = await server.read_by_codegen(made["id"])
        assert (done["status"], done["result"]) == ("COMPLETE", "Done. note: did note(x). The user said ['go on'].")
        assert server.executed == ["note(x)"]


async def test_a_paused_run_stays_paused_as_it_is(server: Server) -> None:
    run = await server.create([DELETE])
    key = await server.key_of(run)
    async with server.nothing_changes():
        response = await server.post(f"{CODEGEN}/pause", {"agent_run_id": key, "prompt": "x"})
    assert (response.status_code, response.json()) == (200, await server.read_by_codegen(key))


async def test_a_run_that_has_ended_cannot_be_paused(server: Server) -> None:
    done = await server.create_by_codegen("x")
    async with server.nothing_changes():
        response = await server.post(f"{CODEGEN}/pause", {"agent_run_id": done["id"]})
        assert (response.status_code, response.json()["status_code"]) == (409, 409)
        assert response.json()["status"] == "COMPLETED"


@pytest.mark.parametrize("route", ["ban", "remove-from-pr"])
async def test_a_banned_run_is_cancelled_for_good(server: Server, route: str) -> None:
    run = await server.create([DELETE])
    key = await server.key_of(run)
    body = {"agent_run_id": key, "before_card_order_id": "a0", "after_card_order_id": None, "other": 1}
    for _ in range(2):
        response = await server.post(f"{CODEGEN}/{route}", body)
        assert (response.status_code, response.json()) == (
            200,
            {"message": f"Agent run {key} has ended: CANCELLED."},
        )
    assert (await server.read_by_codegen(key))["status"] == "CANCELLED"
    assert (await server.resume(key, "go on")).status_code == 409
    assert (await server.post_continue(run, [confirmed(run["tools"][0])])).status_code == 409
    assert server.executed == []


async def test_a_running_run_is_cancelled_by_a_ban(tmp_path: Path) -> None:
    gates = Gates("think")
    async with served(tmp_path, gates=gates) as server:
        made = (await server.post(CODEGEN, {"prompt": calls("note")})).json()
        await gates.reached("think")
        response = await server.post(f"{CODEGEN}/ban", {"agent_run_id": made["id"]})
        assert response.status_code == 200
        gates.open("think")
        assert (await server.settled_by_codegen(made["id"]))["status"] == "CANCELLED"
        assert server.executed == []


async def test_a_run_that_has_ended_stays_as_it_is(server: Server) -> None:
    done = await server.create_by_codegen("x")
    async with server.nothing_changes():
        for route in ("ban", "unban", "remove-from-pr"):
            response = await server.post(f"{CODEGEN}/{route}", {"agent_run_id": done["id"]})
            assert "COMPLETE" in body_of(response)["message"]


async def test_an_unban_changes_nothing(server: Server) -> None:
    run = await server.create([DELETE])
    key = await server.key_of(run)
    async with server.nothing_changes():
        response = await server.post(f"{CODEGEN}/unban", {"agent_run_id": key})
    assert (response.status_code, response.json()) == (
        200,
        {"message": f"Nothing is banned here. Agent run {key} stays PAUSED."},
    )


async def test_what_no_route_can_do_anything_with_is_refused(server: Server) -> None:
    paused = await server.create_by_codegen(plan([DELETE]))
    async with server.nothing_changes():
        for route in ROUTES:
            for run_id in (999, 0, -1, 2**63, 10**40):
                response = await server.post(f"{CODEGEN}/{route}", {"agent_run_id": run_id})
                assert (response.status_code, response.json()) == (404, NOT_FOUND)
            foreign = await server.post(f"/v1/organizations/2/agent/run/{route}", {"agent_run_id": paused["id"]})
            assert refusal(foreign, 403) == "You do not have access to this organization."
            for body in UNFIT_BODIES:
                response = await server.post(f"{CODEGEN}/{route}", body)
                assert (response.status_code, response.json()["detail"][0]["loc"][0]) == (422, "body")
