"""AgentOS's operations with the SDK that openapi-python-client writes as `unpause_client`: with a token and without.

Arguments: the server's address, a token, a name. Prints what it saw as one line of JSON. It reads attributes of the
SDK's classes only: nothing is cast, and no dictionary of the answers is opened but the tool's arguments.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from unpause_client import AuthenticatedClient, Client  # type: ignore[import-not-found]
from unpause_client.api.agents import continue_agent_run as continuing  # type: ignore[import-not-found]
from unpause_client.api.agents import create_agent_run as creating
from unpause_client.api.agents import follow_agent_run as following
from unpause_client.api.agents import list_agent_runs as listing
from unpause_client.api.sessions import get_sessions  # type: ignore[import-not-found]
from unpause_client.models import (  # type: ignore[import-not-found]
    ContinueAgentRunRequest,
    CreateAgentRunRequest,
    PaginatedResponseSessionSchema,
    RunOutput,
    RunPausedEvent,
    ToolExecutionInput,
    UnauthenticatedResponse,
)

AGENT = "desk"


def main(address: str, token: str, name: str) -> dict[str, Any]:
    """Return what was seen."""
    # The default of everything: what streams for a form is JSON for JSON.
    body = CreateAgentRunRequest(message=f"delete {name}")
    refused = creating.sync_detailed(AGENT, client=Client(base_url=address), body=body)
    client = AuthenticatedClient(base_url=address, token=token, raise_on_unexpected_status=True)
    paused = creating.sync(AGENT, client=client, body=body)
    assert isinstance(refused.parsed, UnauthenticatedResponse)
    assert isinstance(paused, RunOutput)
    waiting = [call for call in paused.tools if call.requires_confirmation]
    answers = [ToolExecutionInput(tool_call_id=call.tool_call_id, confirmed=True) for call in waiting]
    answer = ContinueAgentRunRequest(tools=answers, session_id=paused.session_id)
    event = last_event(following.sync(AGENT, paused.run_id, client=client))
    ended = continuing.sync(AGENT, paused.run_id, client=client, body=answer)
    again = continuing.sync_detailed(AGENT, paused.run_id, client=client, body=answer)
    assert isinstance(ended, RunOutput)
    sessions = get_sessions.sync(client=client)
    assert isinstance(sessions, PaginatedResponseSessionSchema)
    runs = listing.sync(AGENT, client=client, session_id=paused.session_id)
    assert isinstance(runs, list)
    return {
        "refused": [refused.status_code, refused.parsed.detail],
        "statuses": [paused.status, ended.status],
        "calls": [[call.tool_name, call.tool_args.to_dict()] for call in waiting],
        "followed": [[call.tool_name for call in event.tools], event.pause_id == paused.pause_id],
        "content": ended.content,
        "user_id": ended.user_id,
        "sessions": sessions.meta.total_count,
        "runs": [run.status for run in runs],
        "again": again.status_code,
    }


def last_event(stream: str) -> RunPausedEvent:
    """Return the last event of the stream, which the SDK gives as text."""
    data = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
    return RunPausedEvent.from_dict(json.loads(data[-1]))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")
