"""The weakness of users: whoever may run agents sees and continues the runs of everybody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.processes.exchange import (
    Json,
    body_of,
    calls_of,
    confirming,
    create,
    path_of,
    poll,
    post_continue,
    query,
    row_counts,
)
from tests.support.agent_processes import HOSTS
from tests.support.processes import ServerProcess
from tests.support.tokens import ASKING, new_token, proof


@pytest.fixture(params=HOSTS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path, "--agent-processes", request.param, environment=ASKING) as server:
        yield server


def coming_as(server: ServerProcess, user: str) -> httpx.Client:
    """Return a client with a token of this user."""
    return server.client(headers=proof(new_token(server, "--user", user)))


@pytest.mark.weakness(23)
def test_another_users_run_and_session_are_not_there(server: ServerProcess) -> None:
    with coming_as(server, "alice") as alice, coming_as(server, "bob") as bob:
        run = create(alice, "delete hers", session_id="hers")
        before = (row_counts(server), query(server, "SELECT * FROM runs"))
        for path in (path_of(run), f"{path_of(run)}/events", "/sessions/hers", "/sessions/hers/runs"):
            assert bob.get(path).status_code == 404, path
            # Saying that one is somebody else does not make one so.
            assert bob.get(path, params={"user_id": "alice"}).status_code == 404, path
        for path in ("/agents/scripted/runs?session_id=hers", "/sessions", "/sessions?user_id=alice"):
            assert "hers" not in bob.get(path).text
        for refused in attempts(bob, run):
            assert refused.status_code == 404, refused.text
        # What is not there may be removed as often as one likes.
        assert bob.delete("/sessions/hers").status_code == 204
        assert (row_counts(server), query(server, "SELECT * FROM runs")) == before
        assert calls_of(server, "hers") == []
        assert body_of(post_continue(alice, run, confirming(run)))["status"] == "COMPLETED"
        assert poll(alice, run, "COMPLETED")["user_id"] == "alice"
        assert calls_of(server, "hers") == ["delete hers"]


def attempts(bob: httpx.Client, run: Json) -> Iterator[httpx.Response]:
    """Try to decide, end, join and remove what is another user's."""
    yield post_continue(bob, run, confirming(run))
    yield post_continue(bob, run, confirming(run), user_id="alice")
    yield bob.post(f"{path_of(run)}/cancel")
    yield bob.post("/agents/scripted/runs", data={"message": "write his", "session_id": "hers", "stream": "false"})
    yield bob.post("/sessions/hers/rename", json={"session_name": "his"})
