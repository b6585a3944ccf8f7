"""Runs of an agent that nobody serves wait for it: nothing ends, no decision is spent, and anybody can see why."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from structlog.testing import capture_logs

from tests.support.databases import Place
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import serving

if TYPE_CHECKING:
    import httpx

    from unpause.bootstrap import Application

CODEGEN = "/v1/organizations/1/agent/run"


async def create(client: httpx.AsyncClient, agent_id: str = "old", **form: str) -> dict[str, Any]:
    response = await client.post(f"/agents/{agent_id}/runs", data={"message": "hello", "stream": "false", **form})
    assert response.status_code in {200, 202}, response.text
    made: dict[str, Any] = response.json()
    return made


async def confirm(client: httpx.AsyncClient, run: dict[str, Any], **form: str) -> httpx.Response:
    tools = f'[{{"tool_call_id": "{run["tools"][0]["tool_call_id"]}", "confirmed": true}}]'
    path = f"/agents/old/runs/{run['run_id']}/continue"
    return await client.post(path, data={"tools": tools, "stream": "false", **form})


async def settled(client: httpx.AsyncClient, run: dict[str, Any]) -> tuple[str, str]:
    """Return how the run stands, and what it says, once nobody executes it."""
    path = f"/agents/old/runs/{run['run_id']}"
    assert (await client.get(f"{path}/events")).status_code == 200
    found = (await client.get(path)).json()
    return found["status"], found["content"]


async def unserved(client: httpx.AsyncClient) -> object:
    ready = await client.get("/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "ready")
    return ready.json().get("unserved")


async def test_runs_of_a_missing_agent_stay_as_they_are_until_it_is_back(tmp_path: Path) -> None:
    place = Place.in_folder(tmp_path)
    settings: dict[str, Any] = {"sweep_seconds": 3600.0}
    async with serving(tmp_path, drivers=[ScriptedDriver(agent_id="old")], **settings) as client:
        first, second = await create(client), await create(client)
        assert await unserved(client) is None
    async with serving(tmp_path, drivers=[ScriptedDriver(agent_id="old")], **settings, worker=False) as client:
        pending = await create(client, background="true")

    applications: list[Application] = []
    new = [ScriptedDriver(agent_id="new")]
    async with serving(tmp_path, drivers=new, seen=applications.append, **settings) as client:
        # It works for its own while that waits.
        assert (await create(client, "new"))["status"] == "PAUSED"
        before = place.lasting()
        answers = [
            await confirm(client, first),
            await confirm(client, first, stream="true"),
            await confirm(client, first, background="true"),
            await client.post(f"{CODEGEN}/resume", json={"agent_run_id": 2, "prompt": "go on"}),
            await client.post(
                f"{CODEGEN}/resume", json={"agent_run_id": 2, "prompt": ""}, headers={"Idempotency-Key": "k"}
            ),
        ]
        for response in answers:
            assert (response.status_code, response.headers["Retry-After"]) == (503, "1"), response.text
            assert "'old'" in response.json().get("detail", response.json().get("message"))
        path = f"/agents/old/runs/{first['run_id']}"
        assert (await client.get(path)).json()["status"] == "PAUSED"
        assert (await client.get(f"{path}/events")).status_code == 200
        assert (await client.post(f"{path}/resume")).status_code == 200
        listed = await client.get("/agents/old/runs", params={"session_id": first["session_id"]})
        assert [run["run_id"] for run in listed.json()] == [first["run_id"]]
        assert (await client.get("/agents/old/runs", params={"session_id": "none"})).status_code == 404
        assert (await client.get("/agents/old/runs/none")).json() == {"detail": "Agent not found"}
        assert await unserved(client) == [{"agent_id": "old", "pending": 1, "paused": 2}]
        with capture_logs() as logs:
            assert [await applications[0].unserved.sweep() for _ in range(3)] == [1, 1, 1]
        assert [entry["agents"] for entry in logs if "no live process" in entry["event"]] in (
            [],  # at the start, and not again
            [{"old": {"pending": 1, "paused": 2}}],
        )
        assert place.lasting() == before

    async with serving(tmp_path, drivers=[ScriptedDriver(agent_id="old")], **settings) as client:
        assert await settled(client, pending) == ("PAUSED", "I have tools to execute, but I need confirmation.")
        for run in (first, second):
            assert (await confirm(client, run)).json()["status"] == "COMPLETED"


async def test_a_run_can_be_cancelled_without_its_agent(tmp_path: Path) -> None:
    settings: dict[str, Any] = {}
    async with serving(tmp_path, drivers=[ScriptedDriver(agent_id="old")], **settings) as client:
        paused = await create(client)
    async with serving(tmp_path, drivers=[ScriptedDriver(agent_id="new")], **settings) as client:
        assert (await client.post(f"/agents/old/runs/{paused['run_id']}/cancel")).status_code == 200
        assert (await settled(client, paused))[0] == "CANCELLED"
        assert await unserved(client) is None


async def test_a_node_takes_decisions_for_an_agent_that_another_live_node_serves(
    postgres_url: str, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"database_url": postgres_url}
    async with AsyncExitStack() as outer:
        new = await outer.enter_async_context(serving(tmp_path, drivers=[ScriptedDriver(agent_id="new")], **settings))
        async with serving(tmp_path, drivers=[ScriptedDriver(agent_id="old")], **settings) as old:
            runs = [await create(old) for _ in range(2)]
            assert await unserved(new) is None
            # The other one executes it; what cannot be made here is another's to make.
            assert (await confirm(new, runs[0])).json()["status"] == "COMPLETED"
            assert (await new.post("/agents/old/runs", data={"message": "hello"})).status_code == 404
        refused = await confirm(new, runs[1])
        assert refused.status_code == 503
        assert await unserved(new) == [{"agent_id": "old", "pending": 0, "paused": 1}]
