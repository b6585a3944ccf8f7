"""Weaknesses of sessions: runs that overwrite one another, cost that grows, a run dropped for its user's name."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.processes.exchange import Json, body_of, calls_of, confirming, create, path_of, post_continue, read
from tests.support.processes import DEADLINE, TRUSTS_NOBODY, ServerProcess
from tests.support.seeding import seed_sessions

# Both are longer than the history that the model is given, which is 10 runs.
SHORT, LONG = 20, 320


@pytest.mark.weakness(12)
async def test_of_6_runs_of_one_session_at_once_all_are_kept(server: ServerProcess) -> None:
    async with httpx.AsyncClient(
        base_url=server.address, timeout=DEADLINE, trust_env=False, verify=TRUSTS_NOBODY
    ) as many:

        async def run(number: int) -> Json:
            form = {"message": f"delete lost-{number}", "session_id": "shared", "stream": "false"}
            return body_of(await many.post("/agents/scripted/runs", data=form))

        made = await asyncio.gather(*(run(number) for number in range(6)))
        kept = (await many.get("/sessions/shared/runs")).json()
        assert {item["run_id"] for item in kept} == {item["run_id"] for item in made}
        answers = await asyncio.gather(
            *(
                many.post(f"{path_of(item)}/continue", data={"tools": confirming(item), "stream": "false"})
                for item in made
            )
        )
        assert [answer.json()["status"] for answer in answers] == ["COMPLETED"] * 6
        kept = (await many.get("/sessions/shared/runs")).json()
        assert {item["status"] for item in kept} == {"COMPLETED"}
    assert [calls_of(server, f"lost-{number}") for number in range(6)] == [
        [f"delete lost-{number}"] for number in range(6)
    ]


@pytest.mark.weakness(14)
def test_a_run_of_another_user_in_a_session_is_kept(client: httpx.Client) -> None:
    ours = create(client, "delete ours", session_id="owned", user_id="alice")
    theirs = create(client, "delete theirs", session_id="owned", user_id="bob")
    assert (read(client, theirs)["status"], theirs["user_id"]) == ("PAUSED", "bob")
    kept = client.get("/sessions/owned/runs").json()
    assert [item["run_id"] for item in kept] == [ours["run_id"], theirs["run_id"]]
    assert body_of(client.get("/sessions/owned"))["user_id"] == "alice"
    assert post_continue(client, theirs, confirming(theirs), user_id="alice").status_code == 404
    assert body_of(post_continue(client, theirs, confirming(theirs), user_id="bob"))["status"] == "COMPLETED"


class Counted:
    """A server that writes down its statements, with a short and a long session in its database."""

    def __init__(self, server: ServerProcess, client: httpx.Client) -> None:
        self._log = server.folder / "statements.jsonl"
        self._client = client

    def statements(self, session_id: str) -> list[Json]:
        """Create and continue a run in the session; return the statements of it all."""
        self._log.write_text("", encoding="utf-8")
        form = {"message": "go", "session_id": session_id, "stream": "false"}
        run = body_of(self._client.post("/agents/counted/runs", data=form))
        done = self._client.post(
            f"/agents/counted/runs/{run['run_id']}/continue", data={"tools": confirming(run), "stream": "false"}
        )
        assert body_of(done)["status"] == "COMPLETED"
        return [json.loads(line) for line in self._log.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[Counted]:
    sessions = {"warm": SHORT, "short": SHORT, "long": LONG}
    seed_sessions(tmp_path / "unpause.db", "counted", sessions, "x" * 2048)
    agents = Path(__file__).parent / "counted_agent.py"
    # The sweeper asks the database too, but only now and then.
    with ServerProcess(tmp_path, "--agents", agents, "--sweep-seconds", "3600") as server, server.client() as client:
        yield Counted(server, client)


def _written(statements: list[Json]) -> list[Json]:
    return [item for item in statements if item["statement"].startswith(("INSERT", "UPDATE", "DELETE"))]


@pytest.mark.weakness(13)
def test_a_long_session_costs_no_more_than_a_short_one(counted: Counted) -> None:
    """Counted, not timed: the rows and characters written and the statements, after 20 and after 320 earlier runs."""
    counted.statements("warm")
    short, long = counted.statements("short"), counted.statements("long")
    # Events may be committed in fewer or more batches; what is in them is the same.
    assert _rows(long) == _rows(short)
    characters = [sum(item["characters"] for item in _written(of)) for of in (short, long)]
    assert characters[1] <= characters[0] * 1.1
    assert sum(item["characters"] for item in _written(long)) < 40_000, "and it is far less than the session's 640 KB"
    assert len(long) <= len(short) * 1.5


def _rows(statements: list[Json]) -> dict[str, int]:
    """Return how many rows are inserted into each table."""
    inserted: dict[str, int] = {}
    for item in statements:
        words = item["statement"].split()
        if words[:2] == ["INSERT", "INTO"]:
            inserted[words[2]] = inserted.get(words[2], 0) + item["rows"]
    return inserted
