"""The answer to a continue is made of what its segment wrote, without reading: it must be what a reader finds."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest

from tests.benchmarks.instant_agent import agent
from tests.support.caller import confirming
from tests.support.server import Server
from tests.support.serving import serving
from tests.support.statements import commits, statements
from tests.support.toolbox import plan
from unpause.services import segment_journal

ONE_CONFIRMED = [plan([("delete_file", {"path": "a"})])]
AUDITED_BESIDE_A_FREE_ONE = [plan([("pay", {"amount": 5}), ("note", {"text": "x"})])]
TWO_PAUSES = [plan([("delete_file", {"path": "a"})], [("pay", {"amount": 5})])]


@pytest.mark.parametrize("message", [*ONE_CONFIRMED, *AUDITED_BESIDE_A_FREE_ONE, *TWO_PAUSES])
async def test_a_continue_is_answered_as_the_run_is_read(server: Server, message: str) -> None:
    run = await server.create(message)
    while run["status"] == "PAUSED":
        run = await server.continued(run, confirming(run))
        assert run == await server.read(run)
    assert run["status"] == "COMPLETED"


# A statement of a cycle by what it does to which table: a table's name alone is a query of it.
CREATE = ["INSERT sessions", "INSERT runs", "INSERT events"]
PAUSE = ["UPDATE runs", "INSERT messages", "INSERT tool_calls", "INSERT requirements"]
PAUSE_EVENTS = ["INSERT events"]
CONTINUE = ["runs", "tool_calls", "UPDATE requirements", "INSERT audit", "UPDATE runs", "INSERT events"]
LOAD = ["messages"]
CALL = ["UPDATE runs", "UPDATE tool_calls", "INSERT events"]
COMPLETE = ["UPDATE runs", "INSERT messages", "INSERT events"]


async def test_a_cycle_executes_these_statements_in_six_transactions(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a slow machine what is collected would else be written before the segment ends.
    monkeypatch.setattr(segment_journal, "_UNWATCHED_SECONDS", 60.0)
    async with serving(tmp_path, [agent], database_url=database_url) as client:
        await _cycle(client)
        with statements() as seen, commits() as committed:
            await _cycle(client)
    cycle = CREATE + PAUSE + PAUSE_EVENTS + CONTINUE + LOAD + CALL + CALL + COMPLETE
    assert [name for name in map(_named, seen) if name is not None] == cycle
    assert len(cycle) == 24
    assert len(committed) == 6


async def _cycle(client: httpx.AsyncClient) -> None:
    created = await client.post("/agents/instant/runs", data={"message": "go", "stream": "false"})
    run = created.json()
    tools = json.dumps([{"tool_call_id": run["tools"][0]["tool_call_id"], "confirmed": True}])
    url = f"/agents/instant/runs/{run['run_id']}/continue"
    continued = await client.post(url, data={"tools": tools, "stream": "false"})
    assert continued.json()["status"] == "COMPLETED"


def _named(statement: str) -> str | None:
    """Return what a statement does to which table; None for one without a table, such as BEGIN."""
    found = re.match(r"(?:(INSERT) INTO|(UPDATE)|SELECT.*?\bFROM(?: \(SELECT.*?FROM)?) (\w+)", statement, re.DOTALL)
    return None if found is None else " ".join(part for part in found.groups() if part)
