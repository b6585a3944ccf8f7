"""What the client raises where the server refuses."""

from __future__ import annotations

from tests.clients.scenarios.shown import AGENT, Client, Json, collect, raised, show_run, tools_of

NOWHERE = "00000000-0000-4000-8000-000000000000"


async def unknown_things(client: Client) -> Json:
    """Name agents, runs and sessions that are not there."""
    run = await client.run_agent(AGENT, "say hello")
    return {
        "run an unknown agent": await raised(client.run_agent("nobody", "say hello")),
        "stream an unknown agent": await raised(collect(client.run_agent_stream("nobody", "say hello"))),
        "read an unknown agent": await raised(client.aget_agent("nobody")),
        "continue an unknown run": await raised(client.continue_agent_run(AGENT, NOWHERE, [])),
        "stream an unknown run": await raised(collect(client.continue_agent_run_stream(AGENT, NOWHERE, []))),
        "continue in another session": await raised(
            client.continue_agent_run(AGENT, run.run_id, [], session_id="another")
        ),
        "continue of another agent": await raised(client.continue_agent_run("other", run.run_id, [])),
        "cancel an unknown run": await raised(client.cancel_agent_run(AGENT, NOWHERE)),
        "cancel of an unknown agent": await raised(client.cancel_agent_run("nobody", run.run_id)),
        "read an unknown session": await raised(client.get_session("nowhere")),
        "rename an unknown session": await raised(client.rename_session("nowhere", "new")),
        "read an unknown run": await raised(client.get_session_run(run.session_id, NOWHERE)),
        "send no message": await raised(client.run_agent(AGENT, "")),
    }


async def too_late(client: Client, message: str) -> Json:
    """Continue a run a second time."""
    paused = await client.run_agent(AGENT, message)
    tools = tools_of(paused)
    for tool in tools:
        tool.confirmed = True
    ended = await client.continue_agent_run(AGENT, paused.run_id, tools, session_id=paused.session_id)
    again = client.continue_agent_run(AGENT, paused.run_id, tools, session_id=paused.session_id)
    streamed = client.continue_agent_run_stream(AGENT, paused.run_id, tools, session_id=paused.session_id)
    return {
        "ended": show_run(ended)["status"],
        "again": await raised(again),
        "streamed": await raised(collect(streamed)),
    }


async def nothing_said(client: Client, message: str) -> Json:
    """Send the tools of a paused run back as they came."""
    paused = await client.run_agent(AGENT, message)
    refused = await raised(client.continue_agent_run(AGENT, paused.run_id, paused.tools, session_id=paused.session_id))
    after = await client.get_session_run(paused.session_id, paused.run_id)
    return {"raised": refused, "status": after.status}


async def tampered(client: Client, message: str) -> Json:
    """Confirm a call with other arguments than were shown."""
    paused = await client.run_agent(AGENT, message)
    (tool,) = tools_of(paused)
    tool.confirmed = True
    tool.tool_args = {"path": "/etc/passwd"}
    refused = await raised(client.continue_agent_run(AGENT, paused.run_id, [tool], session_id=paused.session_id))
    after = await client.get_session_run(paused.session_id, paused.run_id)
    return {"raised": refused, "status": after.status}


async def no_values(client: Client, message: str) -> Json:
    """Give only one of two values that a call waits for."""
    paused = await client.run_agent(AGENT, message)
    (tool,) = tools_of(paused)
    next(field for field in tool.user_input_schema if field.name == "to_address").value = "bob@x.org"
    refused = await raised(client.continue_agent_run(AGENT, paused.run_id, [tool], session_id=paused.session_id))
    after = await client.get_session_run(paused.session_id, paused.run_id)
    return {"raised": refused, "status": after.status}


async def failing_model(client: Client) -> Json:
    """Run an agent whose model fails."""
    run = await client.run_agent(AGENT, "fail now")
    events = await collect(client.run_agent_stream(AGENT, "fail now"))
    return {
        "status": show_run(run)["status"],
        "content": run.content,
        "last": events[-1].event,
        "said": events[-1].content,
    }
