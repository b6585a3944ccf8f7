"""A server that was started by its command keeps two users apart, and two organizations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.processes.conversation import RUNS, Json, create_run, read_run
from tests.support.processes import ServerProcess
from tests.support.tokens import ASKING, add_organization, new_token, proof

LOGS = "/v1/organizations/1/agent/run/1/logs"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("users"), environment=ASKING) as server:
        yield server


@pytest.fixture(scope="module")
def people(server: ServerProcess) -> Iterator[dict[str, httpx.Client]]:
    """Yield clients of two users, and of somebody of another organization with one of their names."""
    add_organization(server, "elsewhere")
    options = {
        "alice": ("--user", "alice"),
        "bob": ("--user", "bob"),
        "elsewhere": ("--user", "alice", "--admin", "--org", "2"),
    }
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(server.client(headers=proof(new_token(server, *given))))
            for name, given in options.items()
        }


@pytest.mark.full
def test_two_users_and_two_organizations_of_a_real_server_are_kept_apart(people: dict[str, httpx.Client]) -> None:
    alice = people["alice"]
    run = create_run(alice, "delete something")
    path = f"{RUNS}/{run['run_id']}"
    tools = json.dumps([{**tool, "confirmed": True} for tool in run["tools"]])
    for name in ("bob", "elsewhere"):
        stranger = people[name]
        for response in (
            stranger.get(path),
            stranger.get(f"{path}/events"),
            stranger.post(f"{path}/events/ticket"),
            stranger.post(f"{path}/resume"),
            stranger.post(f"{path}/continue", data={"tools": tools}),
            stranger.post(f"{path}/cancel"),
            stranger.get(f"/sessions/{run['session_id']}"),
        ):
            assert response.status_code == 404, response.text
            assert "something" not in response.text
        assert stranger.get("/sessions").json()["data"] == []
    begun = people["bob"].post(RUNS, data={"message": "say hello", "session_id": run["session_id"]})
    assert begun.status_code == 404
    assert people["bob"].get(LOGS).status_code == 200, "a member sees it through Codegen's API"
    assert people["elsewhere"].get(LOGS).status_code == 403
    assert people["elsewhere"].get(LOGS.replace("organizations/1", "organizations/2")).status_code == 404

    assert read_run(alice, run)["status"] == "PAUSED"
    done: Json = alice.post(f"{path}/continue", data={"tools": tools, "stream": "false"}).json()
    assert done["status"] == "COMPLETED"
