"""Each request has an id, and each change of a run is one line with the id of the request behind it."""

from __future__ import annotations

import re
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from tests.support.caller import confirming
from tests.support.server import Server, served

_CHANGES = ("run created", "run claimed", "run paused", "run continued", "run released", "run ended")
# Of a call's arguments: a value that no line may hold.
_VALUE = "canary.txt"


def changes(lines: Sequence[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    """Return the lines about changes of runs."""
    return [line for line in lines if line["event"] in _CHANGES]


async def test_the_changes_of_a_run_are_logged_once_each_with_the_id_of_their_request(tmp_path: Path) -> None:
    async with served(tmp_path, tokens=True) as server:
        alice = server.user("alice")
        with capture_logs([merge_contextvars]) as lines:
            run = await alice.create([("delete_file", {"path": _VALUE})], [])
            await alice.continued(run, confirming(run))
    created, paused, continued, ended = changes(lines)
    assert [line["event"] for line in (created, paused, continued, ended)] == [
        "run created", "run paused", "run continued", "run ended",
    ]  # fmt: skip
    assert {line["run_id"] for line in changes(lines)} == {run["run_id"]}
    assert created["request_id"] == paused["request_id"] != continued["request_id"] == ended["request_id"]
    assert (created["by"], created["claimed"], paused["waits_for"]) == ("alice", True, "delete_file")
    assert (continued["by"], continued["via"], continued["decision"]) == ("alice", "agno", "confirmed")
    assert (ended["status"], ended["agent"], ended["organization"]) == ("COMPLETED", "toolbox", 1)
    assert _VALUE not in str(lines)


async def test_a_run_that_another_node_executes_is_logged_with_the_id_of_its_request(
    tmp_path: Path, postgres_url: str
) -> None:
    async with served(tmp_path, database_url=postgres_url, worker=False) as server:
        begun = await server.request(
            "POST",
            "/agents/toolbox/runs",
            {"X-Request-ID": "from-the-proxy"},
            data={"message": "[]", "background": "true", "stream": "false"},
        )
        assert begun.status_code == 202
    with capture_logs([merge_contextvars]) as lines:
        async with served(tmp_path, database_url=postgres_url) as server:
            await server.settled({"agent_id": "toolbox", **begun.json()})
    assert [line["request_id"] for line in changes(lines) if line["event"] == "run ended"] == ["from-the-proxy"]


async def test_a_change_that_was_not_committed_is_not_logged(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        run = await server.create([("delete_file", {"path": _VALUE})])
        with capture_logs() as lines:
            await server.refused(run, [{"tool_call_id": "no such call", "confirmed": True}])
    assert changes(lines) == []


async def test_a_cancelled_run_is_logged_with_who_cancelled_it(tmp_path: Path) -> None:
    async with served(tmp_path, tokens=True) as server:
        run = await server.user("alice").create([("delete_file", {"path": _VALUE})])
        with capture_logs() as lines:
            await server.user("alice").cancel(run)
    [ended] = changes(lines)
    assert (ended["status"], ended["reason"], ended["by"]) == ("CANCELLED", "cancelled", "alice")


async def test_a_run_that_fails_is_a_warning_with_its_reason(tmp_path: Path) -> None:
    async with served(tmp_path, request_limit=1) as server:
        with capture_logs() as lines:
            await server.create([("read_file", {"path": _VALUE})], [("read_file", {"path": _VALUE})])
    [*_, ended] = changes(lines)
    assert (ended["log_level"], ended["status"], ended["reason"]) == ("warning", "ERROR", "usage_limit")


@pytest.fixture
async def server(tmp_path: Path) -> Any:  # noqa: ANN401 - an iterator of servers
    async with served(tmp_path, tokens=True, access_log=True) as server:
        yield server


async def test_an_id_of_the_client_is_kept_where_it_is_a_plain_word(server: Server) -> None:
    for sent in ("8f14e45f-ceea-467f-a9d4-1f1f1f1f1f1f", "a", "A/b=c+d:e@f_1.2", "x" * 128):
        answer = await server.request("GET", "/agents", headers={"X-Request-ID": sent})
        assert answer.headers["x-request-id"] == sent
    for sent in ("", "x" * 129, "a b", 'a"b', "-a", "a\tb", "{}", "<a>", "café", "a;b", "a,b"):
        answer = await server.client.get("/health", headers=[(b"X-Request-ID", sent.encode())])
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"]), sent


async def test_every_answer_has_an_id_also_one_that_no_route_makes(server: Server) -> None:
    for path in ("/health", "/nothing/there", "/agents?x=%00", f"/{'x' * 20_000}"):
        assert len((await server.get(path)).headers["x-request-id"]) == 32


async def test_the_access_log_has_a_line_for_each_request_without_its_query(server: Server) -> None:
    with capture_logs([merge_contextvars]) as lines:
        answer = await server.user("alice").get("/sessions/none", ticket="secret-ticket")
        await server.get("/nothing/there")
    known, unknown = (line for line in lines if line["event"] == "request")
    assert known["request_id"] == answer.headers["x-request-id"]
    assert (known["method"], known["path"], known["route"]) == ("GET", "/sessions/none", "/sessions/{session_id}")
    assert (known["status"], known["user"]) == (404, "alice")
    assert (unknown["route"], unknown["status"]) == ("other", 404)
    assert "secret-ticket" not in str(lines)
