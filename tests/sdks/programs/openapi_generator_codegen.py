"""The journey of `tests/sdks/journey.py` with the SDK that openapi-generator writes as `unpause_sdk`.

Arguments: the server's address, a token, a name. Prints what it saw as one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from unpause_sdk import (  # type: ignore[import-not-found]
    AgentsAlphaApi,
    AgentsApi,
    ApiAgentRunSourceType,
    ApiClient,
    Configuration,
    CreateAgentRunInput,
    ResumeAgentRunInput,
)
from unpause_sdk.exceptions import ConflictException  # type: ignore[import-not-found]

ORGANIZATION = 1


def main(address: str, token: str, name: str) -> dict[str, Any]:
    """Return what was seen."""
    client = ApiClient(Configuration(host=address), "authorization", f"Bearer {token}")
    agents = AgentsApi(client)
    made = CreateAgentRunInput(prompt=f"delete {name}", metadata={"by": name})
    created = agents.create_agent_run_v1_organizations_org_id_agent_run_post(ORGANIZATION, made)
    paused = settled(agents, created.id)
    said = ResumeAgentRunInput(agent_run_id=created.id, prompt=f"say kept {name}")
    resumed = agents.resume_agent_run_v1_organizations_org_id_agent_run_resume_post(ORGANIZATION, said)
    ended = settled(agents, created.id)
    page = agents.list_agent_runs_v1_organizations_org_id_agent_runs_get(
        ORGANIZATION, source_type=ApiAgentRunSourceType.API
    )
    return {
        "statuses": [run.status for run in (created, paused, resumed, ended)],
        "one_run": {run.id for run in (paused, resumed, ended)} == {created.id},
        "metadata": ended.metadata,
        "awaited": paused.result,
        "result": ended.result,
        "listed": created.id in {run.id for run in page.items},
        "page": [page.page, page.size, page.pages],
        "log": logged_types(client, created.id, reverse=False),
        "log_reversed": logged_types(client, created.id, reverse=True),
        "again": resumed_again(agents, said),
    }


def settled(agents: AgentsApi, run_id: int) -> Any:  # noqa: ANN401 - a class of the SDK
    """Poll until the run is no longer at work; return it."""
    get = agents.get_agent_run_v1_organizations_org_id_agent_run_agent_run_id_get
    deadline = time.monotonic() + 60
    while (run := get(run_id, ORGANIZATION)).status == "ACTIVE":
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return run


def logged_types(client: ApiClient, run_id: int, *, reverse: bool) -> dict[str, Any]:
    """Return the types of the log's entries, and how many there are."""
    get = AgentsAlphaApi(client).get_agent_run_logs_v1_alpha_organizations_org_id_agent_run_agent_run_id_logs_get
    found = get(run_id, ORGANIZATION, reverse=reverse)
    return {"types": [entry.message_type for entry in found.logs], "total": found.total_logs}


def resumed_again(agents: AgentsApi, said: ResumeAgentRunInput) -> list[Any]:
    """Return the status of what is raised where the run waits for nothing any more, and whether it says why."""
    try:
        agents.resume_agent_run_v1_organizations_org_id_agent_run_resume_post(ORGANIZATION, said)
    except ConflictException as error:
        return [error.status, bool(error.data.message)]
    return [200, False]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")
