"""Codegen's SDK: an agent that is given a prompt, and its task."""

from __future__ import annotations

import time

from codegen.agents import Agent  # type: ignore[import-not-found]

from tests.clients.codegen_scenarios.shown import ORGANIZATION, WORKING, Client, Json

_POLL_SECONDS = 0.1
_DEADLINE = 60.0


def run_to_its_end(client: Client, token: str, prompt: str) -> Json:
    """Run the agent and refresh its task until it is no longer at work."""
    agent = Agent(token=token, org_id=ORGANIZATION, base_url=client.configuration.host)
    task = agent.run(prompt)
    first = task.status
    deadline = time.monotonic() + _DEADLINE
    while task.status == WORKING and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
        task.refresh()
    return {"first": first, "last": [task.id, task.status, task.result, task.web_url], "status": agent.get_status()}
