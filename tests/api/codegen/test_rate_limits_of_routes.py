"""Which limit each operation of Codegen's API stands under."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.databases import NOW
from tests.support.limited import LimitedServer, served_with_buckets
from tests.support.server import SettableClock

ORGANIZATION = "/v1/organizations/{org_id}"
RUN = f"{ORGANIZATION}/agent/run"
WEBHOOK = f"{ORGANIZATION}/webhooks/agent-run"
# codegen.md section 2. Where it states no limit, the nearest one holds.
EXPECTED = {
    ("get", "/v1/users/me"): "read",
    ("get", "/v1/organizations"): "read",
    ("get", "/v1/mcp-providers"): "read",
    ("get", f"{ORGANIZATION}/users"): "read",
    ("get", f"{ORGANIZATION}/users/{{user_id}}"): "read",
    ("get", f"{ORGANIZATION}/models"): "read",
    ("get", f"{ORGANIZATION}/repos"): "read",
    ("get", f"{ORGANIZATION}/integrations"): "read",
    ("get", f"{ORGANIZATION}/cli/rules"): "change",
    ("get", f"{ORGANIZATION}/agent/runs"): "read",
    ("get", f"{RUN}/{{agent_run_id}}"): "read",
    ("get", f"{RUN}/{{agent_run_id}}/logs"): "logs",
    ("get", "/v1/alpha/organizations/{org_id}/agent/run/{agent_run_id}/logs"): "logs",
    ("post", RUN): "create",
    ("post", f"{RUN}/resume"): "resume",
    ("post", f"{RUN}/pause"): "resume",
    ("post", f"{RUN}/ban"): "change",
    ("post", f"{RUN}/unban"): "change",
    ("post", f"{RUN}/remove-from-pr"): "change",
    ("get", WEBHOOK): "read",
    ("post", WEBHOOK): "change",
    ("delete", WEBHOOK): "change",
    ("post", f"{WEBHOOK}/test"): "webhook_test",
    ("post", f"{ORGANIZATION}/setup-commands/generate"): "setup",
    ("get", f"{ORGANIZATION}/audit"): "read",
}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[LimitedServer]:
    async with served_with_buckets(tmp_path, SettableClock(NOW)) as server:
        yield server


async def operations(server: LimitedServer) -> set[tuple[str, str]]:
    """Return the operations of the server's document that are Codegen's."""
    paths = (await server.client.get("/openapi.json")).json()["paths"]
    return {
        (method, path)
        for path, item in paths.items()
        for method in item
        if path.startswith("/v1/") and not path.startswith(f"{ORGANIZATION}/buckets")
    }


async def ask(server: LimitedServer, method: str, path: str, **headers: str) -> str | None:
    """Send one request that changes nothing and return the policy that it was counted under."""
    filled = path.format(org_id=1, agent_run_id=1, user_id=1)
    response = await server.client.request(
        method,
        filled,
        content=b"{" if method == "post" else None,
        headers={"Content-Type": "application/json", **headers},
    )
    assert response.status_code < 500, response.text
    policy: str | None = response.headers.get("ratelimit-policy")
    return policy


async def test_every_operation_has_its_limit(server: LimitedServer) -> None:
    found = {}
    for method, path in sorted(await operations(server)):
        policy = await ask(server, method, path, Authorization="Bearer t")
        assert policy is not None, f"{method} {path} stands under no limit"
        found[method, path] = policy.partition(";")[0].strip('"')
    assert found == EXPECTED


async def test_without_a_token_no_operation_has_a_limit(server: LimitedServer) -> None:
    for method, path in sorted(await operations(server)):
        assert await ask(server, method, path) is None


async def test_the_original_and_the_extension_share_one_count(server: LimitedServer) -> None:
    body = {"agent_run_id": 1, "prompt": "go on"}
    headers = {"Authorization": "Bearer t"}
    left = []
    for name in ("resume", "pause", "resume"):
        response = await server.client.post(f"{RUN.format(org_id=1)}/{name}", json=body, headers=headers)
        assert response.status_code == 404
        left.append(response.headers["ratelimit"])
    assert left == [f'"resume";r={number};t=60' for number in (59, 58, 57)]


async def test_making_runs_leaves_reading_them_free(server: LimitedServer) -> None:
    """A client that made all its runs must still learn how they go (codegen.md section 8)."""
    headers = {"Authorization": "Bearer t"}
    path = RUN.format(org_id=1)
    made = [await server.client.post(path, json={"prompt": "hello"}, headers=headers) for _ in range(11)]
    assert [response.status_code for response in made] == [200] * 10 + [429]
    for response in made[:10]:
        assert (await server.client.get(f"{path}/{response.json()['id']}", headers=headers)).status_code == 200
    assert len((await server.client.get(f"{path}s", headers=headers)).json()["items"]) == 10


async def test_who_may_not_ask_is_not_counted_anywhere(server: LimitedServer) -> None:
    for method, path in sorted(await operations(server)):
        if "{org_id}" not in path or method == "post":
            continue
        filled = path.format(org_id=2, agent_run_id=1, user_id=1)
        response = await server.client.request(method, filled, headers={"Authorization": "Bearer t"})
        assert (response.status_code, response.headers.get("ratelimit")) == (403, None)
