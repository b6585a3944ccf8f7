"""Pausing a run on request, and ending it: ban, remove-from-pr, and unban, which does nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.api.exchange import ORGANIZATION, Desk, at_desk, confirmed, read_object
from tests.support.agents import plan
from tests.support.gates import Gates, working_agent
from tests.support.serving import serving
from unpause.bootstrap import Application

DELETE = ("delete_file", {"path": "/a"})
NOT_FOUND = {"message": "Agent run not found.", "status_code": 404}
ROUTES = ("pause", "ban", "unban", "remove-from-pr")


@asynccontextmanager
async def at_work(folder: Path, gates: Gates) -> AsyncIterator[Desk]:
    """Serve the agent that a test holds still."""
    executed: list[str] = []
    seen: list[Application] = []
    async with serving(folder, [working_agent(executed, gates)], seen=seen.append) as client:
        yield Desk(client, seen[0], executed)


async def test_a_running_run_is_paused_before_its_next_call_and_sent_on_with_words(tmp_path: Path) -> None:
    gates = Gates("think")
    async with at_work(tmp_path, gates) as desk:
        made = read_object(await desk.client.post(ORGANIZATION, json={"prompt": "note"}))
        await gates.reached("think")
        response = await desk.client.post(f"{ORGANIZATION}/pause", json={"agent_run_id": made["id"]})
        assert (response.status_code, response.json()) == (200, made)
        gates.open("think")
        paused = await desk.settled(made["id"])
        assert (paused["status"], desk.executed) == ("PAUSED", [])
        assert paused["result"] == "The run was paused on request. Resume it with a prompt to send it on."
        response = await desk.resume(made["id"], "go on")
        assert (response.status_code, response.json()["status"]) == (200, "ACTIVE")
        done = await desk.read(made["id"])
        assert (done["status"], done["result"]) == ("COMPLETE", "note is done; go on")
        assert desk.executed == ["note"]


async def test_a_paused_run_stays_paused_as_it_is(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        key = await desk.key_of(run)
        async with desk.nothing_changes(run):
            response = await desk.client.post(f"{ORGANIZATION}/pause", json={"agent_run_id": key, "prompt": "x"})
        assert (response.status_code, response.json()) == (200, await desk.read(key))


async def test_a_run_that_has_ended_cannot_be_paused(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        done = await desk.create_by_codegen("x")
        before = await desk.dump()
        response = await desk.client.post(f"{ORGANIZATION}/pause", json={"agent_run_id": done["id"]})
        assert (response.status_code, response.json()["status_code"]) == (409, 409)
        assert response.json()["status"] == "COMPLETED"
        assert await desk.dump() == before


@pytest.mark.parametrize("route", ["ban", "remove-from-pr"])
async def test_a_banned_run_is_cancelled_for_good(tmp_path: Path, route: str) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        key = await desk.key_of(run)
        body = {"agent_run_id": key, "before_card_order_id": "a0", "after_card_order_id": None, "other": 1}
        for _ in range(2):
            response = await desk.client.post(f"{ORGANIZATION}/{route}", json=body)
            assert (response.status_code, response.json()) == (
                200,
                {"message": f"Agent run {key} has ended: CANCELLED."},
            )
        assert (await desk.read(key))["status"] == "CANCELLED"
        assert (await desk.resume(key, "go on")).status_code == 409
        assert (await desk.post_continue(run, [confirmed(run["tools"][0])])).status_code == 409
        assert desk.executed == []


async def test_a_running_run_is_cancelled_by_a_ban(tmp_path: Path) -> None:
    gates = Gates("think")
    async with at_work(tmp_path, gates) as desk:
        made = read_object(await desk.client.post(ORGANIZATION, json={"prompt": "note"}))
        await gates.reached("think")
        response = await desk.client.post(f"{ORGANIZATION}/ban", json={"agent_run_id": made["id"]})
        assert response.status_code == 200
        gates.open("think")
        assert (await desk.settled(made["id"]))["status"] == "CANCELLED"
        assert desk.executed == []


@pytest.mark.parametrize("route", ["ban", "unban", "remove-from-pr"])
async def test_a_run_that_has_ended_stays_as_it_is(tmp_path: Path, route: str) -> None:
    async with at_desk(tmp_path) as desk:
        done = await desk.create_by_codegen("x")
        before = await desk.dump()
        response = await desk.client.post(f"{ORGANIZATION}/{route}", json={"agent_run_id": done["id"]})
        assert response.status_code == 200
        assert "COMPLETE" in response.json()["message"]
        assert await desk.dump() == before


async def test_an_unban_changes_nothing(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        run = await desk.create([DELETE])
        key = await desk.key_of(run)
        async with desk.nothing_changes(run):
            response = await desk.client.post(f"{ORGANIZATION}/unban", json={"agent_run_id": key})
        assert (response.status_code, response.json()) == (
            200,
            {"message": f"Nothing is banned here. Agent run {key} stays PAUSED."},
        )


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("run_id", [999, 0, -1, 2**63, 10**40])
async def test_a_run_that_is_not_there_is_not_found(tmp_path: Path, route: str, run_id: int) -> None:
    async with at_desk(tmp_path) as desk:
        response = await desk.client.post(f"{ORGANIZATION}/{route}", json={"agent_run_id": run_id})
        assert (response.status_code, response.json()) == (404, NOT_FOUND)


@pytest.mark.parametrize("route", ROUTES)
async def test_another_organization_is_forbidden(tmp_path: Path, route: str) -> None:
    async with at_desk(tmp_path) as desk:
        paused = await desk.create_by_codegen(plan([DELETE]))
        before = await desk.dump()
        response = await desk.client.post(f"/v1/organizations/2/agent/run/{route}", json={"agent_run_id": paused["id"]})
        assert response.status_code == 403
        assert response.json() == {"message": "You do not have access to this organization.", "status_code": 403}
        assert await desk.dump() == before


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("body", [{}, {"agent_run_id": None}, {"agent_run_id": "x"}, [], {"agent_run_id": 1.5}])
async def test_a_body_that_does_not_fit_is_a_422(tmp_path: Path, route: str, body: object) -> None:
    async with at_desk(tmp_path) as desk:
        response = await desk.client.post(f"{ORGANIZATION}/{route}", json=body)
        assert response.status_code == 422
        assert response.json()["detail"][0]["loc"][0] == "body"
