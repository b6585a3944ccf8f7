"""Sessions: their list, their runs, their names, their end."""

from __future__ import annotations

import httpx

from tests.clients.scenarios.shown import AGENT, AgnoObject, Client, Json


async def read(client: Client, session_id: str, user_id: str) -> Json:
    """Make two runs in a session, one of them paused, and read them in every way that the client has."""
    first = await client.run_agent(AGENT, "say hello", session_id=session_id, user_id=user_id)
    second = await client.run_agent(AGENT, f"delete {session_id}", session_id=session_id, user_id=user_id)
    listed = await client.get_sessions(component_id=AGENT, user_id=user_id, limit=5)
    session = await client.get_session(session_id)
    runs = await client.get_session_runs(session_id)
    run = await client.get_session_run(session_id, second.run_id)
    return {
        "made": [first.run_id, second.run_id],
        "listed": [entry.session_id for entry in listed.data],
        "entry": _dumped(listed.data[0]),
        "meta": _dumped(listed.meta),
        "session": _dumped(session),
        "runs": [_dumped(entry) for entry in runs],
        "run": _dumped(run),
    }


async def page(client: Client, user_id: str, count: int) -> Json:
    """Make sessions and page through them, two at a time, oldest first."""
    made = [await client.create_session(user_id=user_id, agent_id=AGENT) for _ in range(count)]
    pages = [
        await client.get_sessions(user_id=user_id, limit=2, page=number, sort_by="created_at", sort_order="asc")
        for number in range(1, count // 2 + 2)
    ]
    return {
        "made": [session.session_id for session in made],
        "pages": [[session.session_id for session in found.data] for found in pages],
        "meta": _dumped(pages[0].meta),
    }


async def change(client: Client, session_id: str, new_name: str) -> Json:
    """Create a session, give it a run, rename it, update it."""
    made = await client.create_session(
        session_id=session_id, user_id="alice", session_name="first", session_state={"a": 1}, agent_id=AGENT
    )
    await client.run_agent(AGENT, "say hello", session_id=session_id, user_id="alice")
    renamed = await client.rename_session(session_id, new_name)
    updated = await client.update_session(session_id, metadata={"team": "x"}, session_state={"a": 2})
    read_back = await client.get_session(session_id)
    named = await client.get_sessions(session_name=new_name, user_id="alice")
    return {
        "made": _dumped(made),
        "renamed": _dumped(renamed),
        "updated": _dumped(updated),
        "read": _dumped(read_back),
        "named": [session.session_id for session in named.data],
    }


async def delete(client: Client, session_id: str) -> Json:
    """Delete a session with a run in it; then look for both."""
    run = await client.run_agent(AGENT, "say hello", session_id=session_id)
    await client.delete_session(session_id)
    await client.delete_session(session_id)
    return {
        "session": await _status(client.get_session(session_id)),
        "runs": await _status(client.get_session_runs(session_id)),
        "run": await _status(client.get_session_run(session_id, run.run_id)),
    }


async def delete_several(client: Client, user_id: str) -> Json:
    """Delete two of three sessions in one request."""
    made = [(await client.create_session(user_id=user_id, agent_id=AGENT)).session_id for _ in range(3)]
    before = await client.get_sessions(user_id=user_id)
    # The type of a session is an enumeration of text.
    await client.delete_sessions(made[:2], ["agent", "agent"])
    after = await client.get_sessions(user_id=user_id)
    return {
        "kept": made[2],
        "before": [session.session_id for session in before.data],
        "after": [session.session_id for session in after.data],
    }


async def read_by_time(client: Client, session_id: str) -> Json:
    """Read a session's runs of some time only; times are whole seconds."""
    run = await client.run_agent(AGENT, "say hello", session_id=session_id)
    requested = {
        "since then": {"created_after": run.created_at},
        "until then": {"created_before": run.created_at},
        "later": {"created_after": run.created_at + 1},
        "earlier": {"created_before": run.created_at - 1},
    }
    found = {what: await client.get_session_runs(session_id, **times) for what, times in requested.items()}
    return {"run": run.run_id, **{what: [entry.run_id for entry in runs] for what, runs in found.items()}}


async def read_as_somebody_else(client: Client, session_id: str) -> Json:
    """Ask, as another user, for a session and what is in it."""
    run = await client.run_agent(AGENT, "say hello", session_id=session_id, user_id="alice")
    return {
        "session": await _status(client.get_session(session_id, user_id="bob")),
        "runs": await _status(client.get_session_runs(session_id, user_id="bob")),
        "run": await _status(client.get_session_run(session_id, run.run_id, user_id="bob")),
        "rename": await _status(client.rename_session(session_id, "mine", user_id="bob")),
        "update": await _status(client.update_session(session_id, session_name="mine", user_id="bob")),
        "delete": await _status(client.delete_session(session_id, user_id="bob")),
        "of alice": await _status(client.get_session_run(session_id, run.run_id, user_id="alice")),
    }


async def _status(requested: AgnoObject) -> list[object]:
    """Return the status and the detail of what the client raises."""
    try:
        found = await requested
    except httpx.HTTPStatusError as error:
        return [error.response.status_code, error.response.json()["detail"]]
    return [200, repr(found)]


def _dumped(model: AgnoObject) -> Json:
    dumped: Json = model.model_dump(mode="json")
    return dumped
