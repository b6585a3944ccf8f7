"""Runs that do not pause."""

from __future__ import annotations

from tests.clients.scenarios.shown import AGENT, Client, Json, collect, names_of, show_run, text_of


async def plain(client: Client, message: str, session_id: str) -> Json:
    """Run the agent and wait for its answer."""
    return show_run(await client.run_agent(AGENT, message, session_id=session_id, user_id="alice"))


async def with_objects(client: Client, session_id: str) -> Json:
    """Run the agent with the further arguments that the client turns into JSON."""
    run = await client.run_agent(
        AGENT, "say hello", session_id=session_id, session_state={"color": "green"}, dependencies={}, metadata={"a": 1}
    )
    return {"run": show_run(run), "session_state": run.session_state, "metadata": run.metadata}


async def streamed(client: Client, message: str, session_id: str) -> Json:
    """Run the agent and read its events."""
    events = await collect(client.run_agent_stream(AGENT, message, session_id=session_id))
    last = events[-1]
    return {
        "names": names_of(events),
        "pieces": sum(event.event == "RunContent" for event in events),
        "text": text_of(events),
        "content": last.content,
        "run_ids": sorted({event.run_id for event in events}),
        "session_ids": sorted({event.session_id for event in events}),
        "agent_ids": sorted({event.agent_id for event in events}),
        "tools": [[event.event, event.tool.tool_name, event.tool.result] for event in events if hasattr(event, "tool")],
    }


async def in_background(client: Client, session_id: str) -> Json:
    """Start a run without waiting for it."""
    run = await client.run_agent(AGENT, "say hello", session_id=session_id, background="true")
    return show_run(run)
