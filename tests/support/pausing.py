"""Pausing runs on request through AgentOS's API: begin one, ask it to pause, see it settle, send it on."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

import httpx

from tests.support.frames import Frame, read_frames

JsonObject: TypeAlias = dict[str, Any]

CODEGEN = "/v1/organizations/1/agent/run"


async def begin(client: httpx.AsyncClient, message: str = "go", agent: str = "agent", **form: str) -> JsonObject:
    """Make a run in the background; return its ids."""
    response = await client.post(f"/agents/{agent}/runs", data={"message": message, "background": "true", **form})
    assert response.status_code == 202, response.text
    return {"agent_id": agent, **response.json()}


async def ask_to_pause(client: httpx.AsyncClient, run: JsonObject) -> None:
    """Ask the run to pause; fail unless that was taken."""
    response = await client.post(f"{path_of(run)}/pause")
    assert (response.status_code, response.json()) == (200, {}), response.text


async def settled(client: httpx.AsyncClient, run: JsonObject) -> JsonObject:
    """Return the run once nobody executes it."""
    await frames(client, run)
    return await read(client, run)


async def read(client: httpx.AsyncClient, run: JsonObject) -> JsonObject:
    """Return the run as it stands."""
    response = await client.get(path_of(run))
    assert response.status_code == 200, response.text
    body: JsonObject = response.json()
    return body


async def frames(client: httpx.AsyncClient, run: JsonObject) -> list[Frame]:
    """Return all events of the run, once nobody executes it."""
    response = await client.get(f"{path_of(run)}/events")
    assert response.status_code == 200, response.text
    return read_frames(response.text)


async def post_continue(client: httpx.AsyncClient, run: JsonObject, *tools: JsonObject, **form: str) -> httpx.Response:
    """Continue the run, with tools or without; the answer comes when it settles again."""
    text = json.dumps(tools) if tools else ""
    return await client.post(f"{path_of(run)}/continue", data={"stream": "false", "tools": text, **form})


async def continued(client: httpx.AsyncClient, run: JsonObject, *tools: JsonObject, **form: str) -> JsonObject:
    """Continue the run and return it as it is when it settles again."""
    response = await post_continue(client, run, *tools, **form)
    assert response.status_code == 200, response.text
    body: JsonObject = response.json()
    return body


async def resumed(client: httpx.AsyncClient, run: JsonObject, prompt: str, key: int = 1, **body: object) -> JsonObject:
    """Resume the run through Codegen's API, where it has the number ``key``; return it when it settles again."""
    response = await client.post(f"{CODEGEN}/resume", json={"agent_run_id": key, "prompt": prompt, **body})
    assert response.status_code == 200, response.text
    assert response.json()["status"] == "ACTIVE"
    return await settled(client, run)


def path_of(run: JsonObject) -> str:
    """Return where AgentOS's API has the run."""
    return f"/agents/{run['agent_id']}/runs/{run['run_id']}"
