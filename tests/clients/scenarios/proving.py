"""A server that asks for tokens: the client sends one with each call, as its `headers`, or none."""

from __future__ import annotations

from tests.clients.scenarios.shown import AGENT, Client, Json, collect, names_of, raised, show_run, tools_of


async def confirm(client: Client, headers: dict[str, str], message: str) -> Json:
    """Pause, confirm and look around, all with the token."""
    paused = await client.run_agent(AGENT, message, headers=headers)
    tools = tools_of(paused)
    for tool in tools:
        tool.confirmed = True
    names = {"agent_id": AGENT, "run_id": paused.run_id, "tools": tools, "session_id": paused.session_id}
    ended = await client.continue_agent_run(**names, headers=headers)
    sessions = await client.get_sessions(headers=headers)
    runs = await client.get_session_runs(paused.session_id, headers=headers)
    return {
        "agents": [agent.id for agent in await client.list_agents(headers=headers)],
        "paused": show_run(paused),
        "ended": show_run(ended),
        "sessions": [session.session_id for session in sessions.data],
        "runs": [run.run_id for run in runs],
    }


async def confirm_in_streams(client: Client, headers: dict[str, str], message: str) -> Json:
    """Pause and confirm in streams, with the token."""
    first = await collect(client.run_agent_stream(AGENT, message, headers=headers))
    paused = first[-1]
    tools = [requirement.tool_execution for requirement in paused.requirements]
    for tool in tools:
        tool.confirmed = True
    names = {"agent_id": AGENT, "run_id": paused.run_id, "tools": tools, "session_id": paused.session_id}
    second = await collect(client.continue_agent_run_stream(**names, headers=headers))
    return {"first": names_of(first)[-1], "second": names_of(second)[-1]}


async def attempts(client: Client, headers: dict[str, str] | None, run_id: str, session_id: str) -> Json:
    """Ask for what is somebody else's, or for anything without a token."""
    return {
        "run": await raised(client.run_agent(AGENT, "say hello", headers=headers)),
        "stream": await raised(collect(client.run_agent_stream(AGENT, "say hello", headers=headers))),
        "continue": await raised(client.continue_agent_run(AGENT, run_id, [], headers=headers)),
        "continue in a stream": await raised(
            collect(client.continue_agent_run_stream(AGENT, run_id, [], headers=headers))
        ),
        "cancel": await raised(client.cancel_agent_run(AGENT, run_id, headers=headers)),
        "read the run": await raised(client.get_session_run(session_id, run_id, headers=headers)),
        "read the session": await raised(client.get_session(session_id, headers=headers)),
    }
