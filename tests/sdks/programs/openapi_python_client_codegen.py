"""The journey of `tests/sdks/journey.py` with the SDK that openapi-python-client writes as `unpause_client`.

Arguments: the server's address, a token, a name. Prints what it saw as one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from unpause_client import AuthenticatedClient  # type: ignore[import-not-found]
from unpause_client.api.agents import (  # type: ignore[import-not-found]
    create_agent_run_v1_organizations_org_id_agent_run_post as creating,
)
from unpause_client.api.agents import (
    get_agent_run_v1_organizations_org_id_agent_run_agent_run_id_get as getting,
)
from unpause_client.api.agents import (
    list_agent_runs_v1_organizations_org_id_agent_runs_get as listing,
)
from unpause_client.api.agents import (
    resume_agent_run_v1_organizations_org_id_agent_run_resume_post as resuming,
)
from unpause_client.api.agents_alpha import (  # type: ignore[import-not-found]
    get_agent_run_logs_v1_alpha_organizations_org_id_agent_run_agent_run_id_logs_get as logging,
)
from unpause_client.models import (  # type: ignore[import-not-found]
    ApiAgentRunSourceType,
    CreateAgentRunInput,
    CreateAgentRunInputMetadataType0,
    ResumeAgentRunInput,
)

ORGANIZATION = 1


def main(address: str, token: str, name: str) -> dict[str, Any]:
    """Return what was seen."""
    client = AuthenticatedClient(base_url=address, token=token, raise_on_unexpected_status=True)
    metadata = CreateAgentRunInputMetadataType0.from_dict({"by": name})
    made = CreateAgentRunInput(prompt=f"delete {name}", metadata=metadata)
    created = creating.sync(ORGANIZATION, client=client, body=made)
    paused = settled(client, created.id)
    said = ResumeAgentRunInput(agent_run_id=created.id, prompt=f"say kept {name}")
    resumed = resuming.sync(ORGANIZATION, client=client, body=said)
    ended = settled(client, created.id)
    page = listing.sync(ORGANIZATION, client=client, source_type=ApiAgentRunSourceType.API)
    again = resuming.sync_detailed(ORGANIZATION, client=client, body=said)
    return {
        "statuses": [run.status for run in (created, paused, resumed, ended)],
        "one_run": {run.id for run in (paused, resumed, ended)} == {created.id},
        "metadata": ended.metadata.to_dict(),
        "awaited": paused.result,
        "result": ended.result,
        "listed": created.id in {run.id for run in page.items},
        "page": [page.page, page.size, page.pages],
        "log": logged_types(client, created.id, reverse=False),
        "log_reversed": logged_types(client, created.id, reverse=True),
        "again": [again.status_code, bool(again.parsed.message)],
    }


def settled(client: AuthenticatedClient, run_id: int) -> Any:  # noqa: ANN401 - a class of the SDK
    """Poll until the run is no longer at work; return it."""
    deadline = time.monotonic() + 60
    while (run := getting.sync(ORGANIZATION, run_id, client=client)).status == "ACTIVE":
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return run


def logged_types(client: AuthenticatedClient, run_id: int, *, reverse: bool) -> dict[str, Any]:
    """Return the types of the log's entries, and how many there are."""
    found = logging.sync(ORGANIZATION, run_id, client=client, reverse=reverse)
    return {"types": [entry.message_type for entry in found.logs], "total": found.total_logs}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])) + "\n")
