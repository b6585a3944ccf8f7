"""Approvals: the client has no methods for them, so an administrator's part is plain HTTP."""

from __future__ import annotations

import httpx

from tests.clients.scenarios.shown import AGENT, Client, Json, show_run, tools_of


async def decide(client: Client, message: str, status: str) -> Json:
    """Pause for an administrator, let one decide, and continue without tools."""
    paused = await client.run_agent(AGENT, message, user_id="alice")
    async with httpx.AsyncClient(base_url=client.base_url, trust_env=False) as admin:
        expected = {"run_id": paused.run_id, "status": "pending", "approval_type": "required"}
        listed = (await admin.get("/approvals", params=expected)).json()
        (approval,) = listed["data"]
        body = {"status": status, "resolved_by": "root"}
        resolved = await admin.post(f"/approvals/{approval['id']}/resolve", json=body)
        ended = await client.continue_agent_run(AGENT, paused.run_id, [], session_id=paused.session_id)
        after = (await admin.get(f"/approvals/{approval['id']}")).json()
    return {
        "paused": show_run(paused),
        "listed": listed,
        "resolved": resolved.json(),
        "ended": show_run(ended),
        "after": after,
    }


async def overrule(client: Client, message: str, status: str | None) -> Json:
    """Confirm as the user what an administrator has not decided yet, or has rejected."""
    paused = await client.run_agent(AGENT, message)
    tools = tools_of(paused)
    if status is not None:
        async with httpx.AsyncClient(base_url=client.base_url, trust_env=False) as admin:
            body = {"status": status, "resolved_by": "root"}
            (await admin.post(f"/approvals/{tools[0].approval_id}/resolve", json=body)).raise_for_status()
    for tool in tools:
        tool.confirmed = True
    try:
        ended = await client.continue_agent_run(AGENT, paused.run_id, tools, session_id=paused.session_id)
    except httpx.HTTPStatusError as error:
        return {"refused": error.response.status_code, "body": error.response.json()}
    return {"ended": show_run(ended)}


async def audited(client: Client, message: str) -> Json:
    """Confirm as the user what administrators want to read about afterwards."""
    paused = await client.run_agent(AGENT, message, user_id="alice")
    for requirement in paused.active_requirements:
        requirement.confirm()
    tools = [requirement.tool_execution for requirement in paused.requirements]
    async with httpx.AsyncClient(base_url=client.base_url, trust_env=False) as admin:
        before = (await admin.get("/approvals", params={"run_id": paused.run_id})).json()["data"]
        ended = await client.continue_agent_run(
            AGENT, paused.run_id, tools, session_id=paused.session_id, user_id="alice"
        )
        after = (await admin.get("/approvals", params={"run_id": paused.run_id})).json()["data"]
    return {"before": before, "ended": show_run(ended), "after": after}
