"""Weaknesses of approvals: overruled, left behind, and not written at all."""

from __future__ import annotations

import httpx
import pytest

from tests.processes.exchange import (
    Json,
    begin,
    body_of,
    calls_of,
    confirming,
    create,
    path_of,
    post_continue,
    query,
    read,
    settled,
)
from tests.support.processes import ServerProcess


def approval_of(client: httpx.Client, run: Json) -> Json:
    """Return the one approval of the run."""
    (found,) = body_of(client.get("/approvals", params={"run_id": run["run_id"]}))["data"]
    assert isinstance(found, dict)
    return found


@pytest.mark.weakness(3)
@pytest.mark.parametrize("stream", ["true", "false"])
def test_no_client_overrules_an_administrator(server: ServerProcess, client: httpx.Client, stream: str) -> None:
    name = f"overruled-{stream}"
    run = create(client, f"deploy {name}")
    assert post_continue(client, run, confirming(run), stream=stream).status_code == 403
    rejected = {"status": "rejected", "resolved_by": "root"}
    body_of(client.post(f"/approvals/{approval_of(client, run)['id']}/resolve", json=rejected))
    assert post_continue(client, run, confirming(run), stream=stream).status_code == 200
    assert settled(client, run)["status"] == "COMPLETED"
    assert calls_of(server, name) == []


@pytest.mark.weakness(4)
def test_no_approval_stays_pending_when_its_run_has_gone_on(client: httpx.Client) -> None:
    before = body_of(client.get("/approvals/count"))["count"]
    run, cancelled = create(client, "deploy counted"), create(client, "deploy counted")
    assert body_of(client.get("/approvals/count"))["count"] == before + 2
    assert post_continue(client, run, confirming(run)).status_code == 403
    assert approval_of(client, run)["run_status"] == "PAUSED"
    body_of(client.post(f"/approvals/{approval_of(client, run)['id']}/resolve", json={"status": "approved"}))
    body_of(post_continue(client, run))
    body_of(client.post(f"{path_of(cancelled)}/cancel"))
    assert body_of(client.get("/approvals/count"))["count"] == before
    found = [approval_of(client, item) for item in (run, cancelled)]
    assert [(item["status"], item["run_status"]) for item in found] == [
        ("approved", "COMPLETED"),
        ("cancelled", "CANCELLED"),
    ]


@pytest.mark.weakness(25)
def test_a_run_pauses_with_its_approval_or_not_at_all(server: ServerProcess, client: httpx.Client) -> None:
    broken = "CREATE TRIGGER broken BEFORE INSERT ON approvals BEGIN SELECT RAISE(ABORT, 'no approvals'); END"
    query(server, broken)
    try:
        run = begin(client, "deploy unrecorded")
        ended = settled(client, run)
    finally:
        query(server, "DROP TRIGGER broken")
    assert ended["status"] == "ERROR"
    assert "no approvals" not in ended["content"]
    for table in ("requirements", "approvals"):
        rows = query(server, f"SELECT run_id FROM {table} JOIN runs ON runs.id = run_key")  # noqa: S608 - our own names
        assert run["run_id"] not in {run_id for (run_id,) in rows}
    assert post_continue(client, run).status_code == 409
    assert calls_of(server, "unrecorded") == []
    whole = create(client, "deploy recorded")
    assert read(client, whole)["status"] == "PAUSED"
    assert approval_of(client, whole)["status"] == "pending"
