"""The journey over AgentOS's routes with the SDK that openapi-python-client writes as `unpause_client`.

Arguments: the server's address, a user's token, an administrator's token, a name. Prints what it saw as one line of
JSON. It reads attributes of the SDK's classes only: nothing is cast, and no dictionary of the answers is opened but the
tool's arguments.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from unpause_client import AuthenticatedClient  # type: ignore[import-not-found]
from unpause_client.api.agents import continue_agent_run as continuing  # type: ignore[import-not-found]
from unpause_client.api.agents import create_agent_run as creating
from unpause_client.api.agents import follow_agent_run as following
from unpause_client.api.agents import list_agent_runs as listing
from unpause_client.api.approvals import (  # type: ignore[import-not-found]
    resolve_approval_approvals_approval_id_resolve_post as resolving,
)
from unpause_client.api.sessions import get_sessions  # type: ignore[import-not-found]
from unpause_client.models import (  # type: ignore[import-not-found]
    ApprovalResolve,
    ApprovalResponse,
    ContinueAgentRunRequest,
    CreateAgentRunRequest,
    PaginatedResponseSessionSchema,
    RunOutput,
    RunPausedEvent,
    ToolExecutionInput,
    UnauthenticatedResponse,
)

AGENT = "desk"


def main(address: str, token: str, admin_token: str, name: str) -> dict[str, Any]:
    """Return what was seen."""
    user, admin = (
        AuthenticatedClient(base_url=address, token=proof, raise_on_unexpected_status=True)
        for proof in (token, admin_token)
    )
    stranger = AuthenticatedClient(base_url=address, token="", prefix="")
    refused = creating.sync_detailed(AGENT, client=stranger, body=CreateAgentRunRequest(message="say no"))
    assert isinstance(refused.parsed, UnauthenticatedResponse)
    seen = confirmed(user, created(user, f"delete {name}", name))
    approval = approved(user, admin, created(user, f"deploy {name}", name))
    sessions = get_sessions.sync(client=user)
    assert isinstance(sessions, PaginatedResponseSessionSchema)
    runs = listing.sync(AGENT, client=user, session_id=name)
    assert isinstance(runs, list)
    return {
        **seen,
        "refused": [refused.status_code, refused.parsed.detail],
        "approval": approval,
        "sessions": sessions.meta.total_count,
        "runs": [run.status for run in runs],
    }


def created(client: AuthenticatedClient, message: str, session_id: str) -> RunOutput:
    """Return the run that this message creates, once it has paused."""
    # The default of everything: what streams for a form is JSON for JSON.
    body = CreateAgentRunRequest(message=message, session_id=session_id)
    paused = creating.sync(AGENT, client=client, body=body)
    assert isinstance(paused, RunOutput)
    return paused


def confirmed(client: AuthenticatedClient, paused: RunOutput) -> dict[str, Any]:
    """Confirm the call that the run waits for, twice; return what was seen."""
    waiting = [call for call in paused.tools if call.requires_confirmation]
    answers = [ToolExecutionInput(tool_call_id=call.tool_call_id, confirmed=True) for call in waiting]
    answer = ContinueAgentRunRequest(tools=answers, session_id=paused.session_id)
    event = last_event(following.sync(AGENT, paused.run_id, client=client))
    ended = continuing.sync(AGENT, paused.run_id, client=client, body=answer)
    again = continuing.sync_detailed(AGENT, paused.run_id, client=client, body=answer)
    assert isinstance(ended, RunOutput)
    return {
        "statuses": [paused.status, ended.status],
        "calls": [[call.tool_name, call.tool_args.to_dict()] for call in waiting],
        "followed": [[call.tool_name for call in event.tools], event.pause_id == paused.pause_id],
        "content": ended.content,
        "user_id": ended.user_id,
        "again": again.status_code,
    }


def approved(user: AuthenticatedClient, admin: AuthenticatedClient, paused: RunOutput) -> list[object]:
    """Have the administrator approve the call that the run waits for, and continue it; return what was seen."""
    approval_id = paused.tools[0].approval_id
    assert approval_id is not None
    approval = resolving.sync(approval_id, client=admin, body=ApprovalResolve(status="approved"))
    assert isinstance(approval, ApprovalResponse)
    ended = continuing.sync(AGENT, paused.run_id, client=user, body=ContinueAgentRunRequest(tools=[]))
    assert isinstance(ended, RunOutput)
    return [approval.status, approval.tool_name, approval.run_status, ended.status, ended.content]


def last_event(stream: object) -> RunPausedEvent:
    """Return the last event of the stream, which the SDK gives as text."""
    assert isinstance(stream, str)
    data = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
    return RunPausedEvent.from_dict(json.loads(data[-1]))


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")
