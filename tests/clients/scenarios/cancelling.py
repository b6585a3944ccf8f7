"""Runs that somebody cancels."""

from __future__ import annotations

import httpx

from tests.clients.scenarios.shown import AGENT, Client, Json, names_of, tools_of


async def while_it_streams(client: Client) -> Json:
    """Cancel a run at its first words, and read its stream to the end."""
    events = []
    async for event in client.run_agent_stream(AGENT, "wait here"):
        events.append(event)
        if event.event == "RunContent":
            await client.cancel_agent_run(AGENT, event.run_id)
    last = events[-1]
    run = await client.get_session_run(last.session_id, last.run_id)
    return {"names": names_of(events), "reason": last.reason, "run_id": last.run_id, "status": run.status}


async def while_it_is_paused(client: Client, path: str) -> Json:
    """Cancel a paused run, and then try to continue it."""
    paused = await client.run_agent(AGENT, f"delete {path}")
    await client.cancel_agent_run(AGENT, paused.run_id)
    run = await client.get_session_run(paused.session_id, paused.run_id)
    tools = tools_of(paused)
    for tool in tools:
        tool.confirmed = True
    refused = None
    try:
        await client.continue_agent_run(AGENT, paused.run_id, tools, session_id=paused.session_id)
    except httpx.HTTPStatusError as error:
        refused = [type(error).__name__, error.response.status_code, error.response.json()]
    return {"status": run.status, "refused": refused}
