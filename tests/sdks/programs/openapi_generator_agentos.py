"""The journey over AgentOS's routes with the SDK that openapi-generator writes as `unpause_sdk`.

Arguments: the server's address, a user's token, an administrator's token, a name. Prints what it saw as one line of
JSON. It reads attributes of the SDK's classes only: nothing is cast.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from unpause_sdk import (  # type: ignore[import-not-found]
    AgentsApi,
    ApiClient,
    ApprovalResolve,
    ApprovalsApi,
    Configuration,
    ContinueAgentRunRequest,
    CreateAgentRunRequest,
    RunOutput,
    RunOutputEvent,
    RunPausedEvent,
    SessionsApi,
    ToolExecutionInput,
    UnauthenticatedResponse,
)
from unpause_sdk.exceptions import ConflictException, UnauthorizedException  # type: ignore[import-not-found]

AGENT = "desk"


def main(address: str, token: str, admin_token: str, name: str) -> dict[str, Any]:
    """Return what was seen."""
    client = ApiClient(Configuration(host=address, access_token=token))
    agents = AgentsApi(client)
    approvals = ApprovalsApi(ApiClient(Configuration(host=address, access_token=admin_token)))
    refused = refused_without_token(address)
    seen = confirmed(agents, created(agents, f"delete {name}", name))
    approval = approved(agents, approvals, created(agents, f"deploy {name}", name))
    sessions = SessionsApi(client).get_sessions()
    runs = agents.list_agent_runs(AGENT, session_id=name)
    return {
        **seen,
        "refused": refused,
        "approval": approval,
        "sessions": sessions.meta.total_count,
        "runs": [run.status for run in runs],
    }


def refused_without_token(address: str) -> list[object]:
    """Return the status and the reason of a refusal."""
    try:
        created(AgentsApi(ApiClient(Configuration(host=address))), "say no", "none")
    except UnauthorizedException as error:
        return [error.status, error.data.detail if isinstance(error.data, UnauthenticatedResponse) else None]
    return []


def created(agents: AgentsApi, message: str, session_id: str) -> RunOutput:
    """Return the run that this message creates, once it has paused."""
    # The default of everything: what streams for a form is JSON for JSON.
    return agents.create_agent_run(AGENT, CreateAgentRunRequest(message=message, session_id=session_id))


def confirmed(agents: AgentsApi, paused: RunOutput) -> dict[str, Any]:
    """Confirm the call that the run waits for, twice; return what was seen."""
    waiting = [call for call in paused.tools if call.requires_confirmation]
    answers = [ToolExecutionInput(tool_call_id=call.tool_call_id, confirmed=True) for call in waiting]
    answer = ContinueAgentRunRequest(tools=answers, session_id=paused.session_id, pause_id=paused.pause_id)
    event = last_event(agents.follow_agent_run(AGENT, paused.run_id))
    ended = agents.continue_agent_run(AGENT, paused.run_id, continue_agent_run_request=answer)
    assert ended.content is not None
    return {
        "statuses": [paused.status, ended.status],
        "calls": [[call.tool_name, call.tool_args] for call in waiting],
        "followed": [[call.tool_name for call in event.tools], event.pause_id == paused.pause_id],
        "content": ended.content.actual_instance,
        "user_id": ended.user_id,
        "again": continued_again(agents, paused.run_id, answer),
    }


def continued_again(agents: AgentsApi, run_id: str, answer: ContinueAgentRunRequest) -> int:
    """Return the status of what is raised where the run is not paused any more."""
    try:
        agents.continue_agent_run(AGENT, run_id, continue_agent_run_request=answer)
    except ConflictException as error:
        return int(error.status)
    return 200


def approved(agents: AgentsApi, approvals: ApprovalsApi, paused: RunOutput) -> list[object]:
    """Have the administrator approve the call that the run waits for, and continue it; return what was seen."""
    approval_id = paused.tools[0].approval_id
    assert approval_id is not None
    resolve = approvals.resolve_approval_approvals_approval_id_resolve_post
    approval = resolve(approval_id, ApprovalResolve(status="approved"))
    body = ContinueAgentRunRequest(tools=[])
    ended = agents.continue_agent_run(AGENT, paused.run_id, continue_agent_run_request=body)
    assert ended.content is not None
    return [approval.status, approval.tool_name, approval.run_status, ended.status, ended.content.actual_instance]


def last_event(stream: str) -> RunPausedEvent:
    """Return the last event of the stream, which the SDK gives as text."""
    data = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("data: ")]
    event = RunOutputEvent.from_json(data[-1]).actual_instance
    assert isinstance(event, RunPausedEvent)
    return event


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")
