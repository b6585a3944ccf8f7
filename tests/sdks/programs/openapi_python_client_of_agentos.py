"""AgentOS's operations with the SDK that openapi-python-client writes as `unpause_client`: with a token and without.

Arguments: the server's address, a token, a name. Prints what it saw as one line of JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from unpause_client import AuthenticatedClient, Client  # type: ignore[import-not-found]
from unpause_client.api.agents import continue_agent_run as continuing  # type: ignore[import-not-found]
from unpause_client.api.agents import create_agent_run as creating
from unpause_client.api.sessions import get_sessions  # type: ignore[import-not-found]
from unpause_client.models import BodyContinueAgentRun, BodyCreateAgentRun  # type: ignore[import-not-found]

AGENT = "desk"


def main(address: str, token: str, name: str) -> dict[str, Any]:
    """Return what was seen."""
    body = BodyCreateAgentRun(message=f"delete {name}", stream=False)
    refused = creating.sync_detailed(AGENT, client=Client(base_url=address), body=body)
    client = AuthenticatedClient(base_url=address, token=token, raise_on_unexpected_status=True)
    paused = creating.sync(AGENT, client=client, body=body)
    tools = json.dumps([{**tool, "confirmed": True} for tool in paused["tools"]])
    answer = BodyContinueAgentRun(tools=tools, session_id=paused["session_id"], stream=False)
    ended = continuing.sync(AGENT, paused["run_id"], client=client, body=answer)
    again = continuing.sync_detailed(AGENT, paused["run_id"], client=client, body=answer)
    sessions = json.loads(get_sessions.sync_detailed(client=client).content)
    return {
        "refused": [refused.status_code, refused.parsed.detail],
        "statuses": [paused["status"], ended["status"]],
        "content": ended["content"],
        "user_id": ended["user_id"],
        "sessions": len(sessions["data"]),
        "again": again.status_code,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")
