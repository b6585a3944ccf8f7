"""Any node answers: what one begins another continues, its stream is the same everywhere, and one continue wins."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from tests.nodes.following import Following, stored_numbers
from tests.processes.conversation import (
    CODEGEN,
    RUNS,
    Json,
    agno_name,
    confirming,
    continue_path,
    create_codegen_run,
    read_codegen_run,
    read_run,
    read_settled_run,
)
from tests.support.cluster import Cluster
from tests.support.databases import PostgresServer
from tests.support.processes import DEADLINE, TRUSTS_NOBODY, Barrier

CLIENTS = 64


@pytest.fixture(scope="module")
def cluster(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("nodes")
    with postgres.migrated_database() as url, Cluster(folder, url) as cluster:
        cluster.start()
        yield cluster


def begin(client: httpx.Client, script: str) -> Json:
    """Create a run and do not wait for it."""
    response = client.post(RUNS, data={"message": script, "background": "true", "stream": "false"})
    assert response.status_code == 202, response.text
    return {"agent_id": "scripted", **response.json()}


def follow(cluster: Cluster, run: Json, after: int = 0) -> list[Following]:
    """Follow the run on every node, each stream on its own."""
    return [Following(lambda one=api: [one.address], run, after) for api in cluster.apis]  # type: ignore[misc]


def test_a_run_of_one_node_is_continued_on_another_and_followed_on_both(cluster: Cluster) -> None:
    first, second = cluster.apis
    with (
        Barrier(cluster.folder, "before") as before,
        Barrier(cluster.folder, "after") as after,
        first.client() as on_first,
        second.client() as on_second,
    ):
        run = begin(on_first, "gated before, confirmed it, gated after, say one two three four five")
        before.wait_for_arrival()
        streams = follow(cluster, run)
        for stream in streams:
            assert stream.has_begun.wait(DEADLINE)
        before.let_go()
        for stream in streams:
            assert stream.wait()[-1].event == "RunPaused"
        paused = read_settled_run(on_second, run)
        assert paused["status"] == "PAUSED"
        with on_second.stream("POST", continue_path(run), data={"tools": confirming(paused)}) as response:
            assert response.status_code == 200
            after.wait_for_arrival()
            later = follow(cluster, run, after=streams[0].last)
            for stream in later:
                assert stream.has_begun.wait(DEADLINE)
            after.let_go()
            assert "event: RunCompleted" in response.read().decode()
        for stream in later:
            assert stream.wait()[-1].event == "RunCompleted"
        whole = stored_numbers(on_first, run)
        done = read_run(on_first, run)
    assert (done["status"], done["content"]) == ("COMPLETED", "one two three four five ")
    assert whole == sorted(set(whole))
    for earlier, stream in zip(streams, later, strict=True):
        assert earlier.numbers + stream.numbers == whole
        assert earlier.broken == stream.broken == 0
    assert [line.what for line in cluster.noted("it")] == ["began", "ended"]
    assert cluster.find_gaps() == []


async def test_of_64_continues_of_both_apis_on_both_nodes_one_wins(cluster: Cluster) -> None:
    with cluster.apis[0].client() as client:
        made = create_codegen_run(client, "confirmed contested")
        assert read_codegen_run(client, made["id"])["status"] == "PAUSED"
        run = read_run(client, agno_name(made))
    tools = confirming(run)

    async def send(number: int, racer: httpx.AsyncClient) -> httpx.Response:
        if number % 4 >= 2:
            return await racer.post(f"{CODEGEN}/resume", json={"agent_run_id": made["id"], "prompt": "keep it"})
        return await racer.post(continue_path(run), data={"tools": tools, "stream": "false"})

    racers = [
        httpx.AsyncClient(
            base_url=cluster.apis[number % 2].address, timeout=DEADLINE, trust_env=False, verify=TRUSTS_NOBODY
        )
        for number in range(CLIENTS)
    ]
    # Connected already, so that the next requests meet.
    await asyncio.gather(*(racer.get("/health") for racer in racers))
    answers = await asyncio.gather(*(send(number, racer) for number, racer in enumerate(racers)))
    for racer in racers:
        await racer.aclose()
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: CLIENTS - 1}
    with cluster.apis[1].client() as client:
        done = read_settled_run(client, run)
    confirmed = next(answer for answer in answers if answer.status_code == 200).url.path.endswith("/continue")
    assert done["status"] == "COMPLETED"
    assert [line.what for line in cluster.noted("contested")] == (["began", "ended"] if confirmed else [])
    for answer in answers:
        if answer.status_code == 409:
            told = answer.json()
            assert told["decision"] == ("confirmed" if confirmed else "rejected")
            assert told["continued_via"] == ("agno" if confirmed else "codegen")
    assert cluster.rows("SELECT fence FROM runs WHERE id = %s", made["id"]) == [(2,)]
    assert cluster.find_gaps() == []
