"""Many clients continue one paused run at once, over HTTP: the tool runs once, one client wins, the others hear who."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from datetime import datetime

import httpx
import pytest

from tests.processes.conversation import (
    CODEGEN,
    Json,
    agno_name,
    calls_of,
    confirming,
    continue_path,
    create_codegen_run,
    create_run,
    read_codegen_run,
    read_run,
    read_settled_run,
)
from tests.support.agent_processes import HOSTS
from tests.support.processes import DEADLINE, TRUSTS_NOBODY, ServerProcess

CLIENTS = 64


@pytest.fixture(scope="module", params=HOSTS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("race"), "--agent-processes", request.param) as server:
        yield server


@pytest.fixture
async def racers(server: ServerProcess) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Return clients that are connected already, so that their next requests meet at the server."""
    async with asyncio.TaskGroup() as tasks:
        clients = [
            httpx.AsyncClient(base_url=server.address, timeout=DEADLINE, trust_env=False, verify=TRUSTS_NOBODY)
            for _ in range(CLIENTS)
        ]
        for client in clients:
            tasks.create_task(client.get("/health"))
    yield clients
    for client in clients:
        await client.aclose()


@pytest.mark.weakness(1)
async def test_of_64_continues_at_once_one_runs_the_tool_and_63_are_told_who_was_first(
    server: ServerProcess, racers: list[httpx.AsyncClient]
) -> None:
    with server.client() as client:
        run = create_run(client, "delete contested")
    tools = confirming(run)

    def send(number: int) -> Json:
        return {"tools": tools, "user_id": f"user-{number}", "stream": "false" if number % 2 else "true"}

    answers = await asyncio.gather(
        *(racer.post(continue_path(run), data=send(number)) for number, racer in enumerate(racers))
    )
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: CLIENTS - 1}
    assert calls_of(server, "contested") == ["delete contested"]
    winner = next(number for number, answer in enumerate(answers) if answer.status_code == 200)
    for answer in (answer for answer in answers if answer.status_code == 409):
        told = answer.json()
        assert told["detail"] in {"run is already running", "run is already continued"}
        assert told["continued_by"] == f"user-{winner}"
        assert told["continued_via"] == "agno"
        assert told["decision"] == "confirmed"
        assert datetime.fromisoformat(told["continued_at"]).tzinfo is not None
    with server.client() as client:
        assert read_run(client, run)["status"] == "COMPLETED"


@pytest.mark.full
async def test_of_64_clients_of_both_apis_one_wins_and_its_decision_is_the_one_that_counts(
    server: ServerProcess, racers: list[httpx.AsyncClient]
) -> None:
    with server.client() as client:
        made = create_codegen_run(client, "delete mixed")
        assert read_codegen_run(client, made["id"])["status"] == "PAUSED"
        run = read_run(client, agno_name(made))
    tools = confirming(run)

    async def send(number: int, racer: httpx.AsyncClient) -> httpx.Response:
        if number % 2:
            body = {"agent_run_id": made["id"], "prompt": "keep it"}
            return await racer.post(f"{CODEGEN}/resume", json=body)
        return await racer.post(continue_path(run), data={"tools": tools, "stream": "false"})

    answers = await asyncio.gather(*(send(number, racer) for number, racer in enumerate(racers)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: CLIENTS - 1}
    with server.client() as client:
        done = read_settled_run(client, run)
    confirmed = answers[[answer.status_code for answer in answers].index(200)].url.path.endswith("/continue")
    assert done["status"] == "COMPLETED"
    assert calls_of(server, "mixed") == (["delete mixed"] if confirmed else [])
    assert ("keep it" in done["content"]) is not confirmed
    for number, answer in enumerate(answers):
        if answer.status_code == 409:
            told = answer.json()
            assert ("message" in told, "detail" in told) == ((True, False) if number % 2 else (False, True))
            assert told["decision"] == ("confirmed" if confirmed else "rejected")
            assert told["continued_via"] == ("agno" if confirmed else "codegen")
