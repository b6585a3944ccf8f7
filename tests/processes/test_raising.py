"""Whatever an author's code raises, wherever that is: its own run suffers, and nobody else notices."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.processes.conversation import Json, confirming
from tests.support.processes import ServerProcess

AGENTS = Path(__file__).parent / "raising_agents.py"

# What the model reads of a tool that raised it, and the end of a run in which anything else did.
WORDS = {
    "Panic": "Panic: index out of bounds",
    "SystemExit": "SystemExit: 2",
    "KeyboardInterrupt": "KeyboardInterrupt",
    "GeneratorExit": "GeneratorExit",
    "CancelledError": "CancelledError",
    "BaseExceptionGroup": "BaseExceptionGroup: many (2 sub-exceptions)",
    "Mute": "Mute",
}
# Where Python itself makes something else of it.
TURNED = {"StopIteration": "coroutine raised StopIteration", "StopAsyncIteration": "StopAsyncIteration"}
ELSEWHERE = (
    *("instructions", "system-prompt", "arguments", "output-validator", "output-function"),
    *("history", "hook", "prepare", "stream", "request"),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    environment = {"UNPAUSE_SHUTDOWN_GRACE_SECONDS": "0.5"}
    with ServerProcess(tmp_path_factory.mktemp("raising"), "--agents", AGENTS, environment=environment) as server:
        yield server


def run(client: httpx.Client, agent: str, message: str = "go") -> Json:
    response = client.post(f"/agents/{agent}/runs", data={"message": message, "stream": "false"})
    assert response.status_code == 200, response.text
    return dict(response.json())


def run_all(client: httpx.Client, asked: list[tuple[str, str]]) -> dict[tuple[str, str], Json]:
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(asked, pool.map(lambda pair: run(client, *pair), asked), strict=True))


def test_whatever_is_raised_ends_its_own_call_or_run_and_is_logged_once(server: ServerProcess) -> None:
    in_tools = [(agent, kind) for agent in ("sync-tool", "async-tool", "behind") for kind in (*WORDS, *TURNED)]
    elsewhere = [(agent, kind) for agent in ELSEWHERE for kind in ("Panic", "SystemExit", "CancelledError", "Mute")]
    entered = [(f"enter-{kind}", kind) for kind in WORDS]
    with server.client() as client:
        waiting = run(client, "bystander")
        ended = run_all(client, [*in_tools, *elsewhere, *entered])
        stuck = run(client, "system-prompt", "StopAsyncIteration")
        assert client.get("/health").status_code == 200
        done = client.post(
            f"/agents/bystander/runs/{waiting['run_id']}/continue",
            data={"tools": confirming(waiting), "stream": "false"},
        ).json()
    assert done["status"] == "COMPLETED"
    assert (stuck["status"], "StopAsyncIteration" in stuck["content"]) == ("ERROR", True)
    for agent, kind in in_tools:
        said = "left behind" if agent == "behind" else {**WORDS, **TURNED}[kind]
        assert ended[agent, kind]["status"] == "COMPLETED"
        assert ended[agent, kind]["content"] == f"{said} | done"
        (tool, other) = sorted(ended[agent, kind]["tools"], key=lambda tool: tool["tool_name"] != "raising")
        assert (tool["tool_call_error"], other["tool_call_error"]) == (agent != "behind", False)
    for agent, kind in [*elsewhere, *entered]:
        shown = ended[agent, kind]
        assert (shown["status"], shown["content"]) == ("ERROR", WORDS[kind]), agent
        assert (shown["messages"][0]["role"], shown["messages"][0]["content"]) == ("user", kind), agent
        assert kind in shown["traceback"], agent
        lines = [line for line in server.output.splitlines() if f"run_id={shown['run_id']}" in line]
        assert sum("[error" in line for line in lines) == 1, agent


def test_the_signal_of_whoever_runs_the_server_stops_it_all_the_same(server: ServerProcess) -> None:
    with server.client() as client:
        assert run(client, "behind", "SystemExit")["status"] == "COMPLETED"
    assert server.stop() == -signal.SIGTERM


def test_a_server_whose_background_work_dies_ends_with_a_code_that_says_so(tmp_path: Path) -> None:
    # Only where agents run in the server itself does a tool reach its background work.
    with ServerProcess(tmp_path, "--agents", AGENTS, "--agent-processes", "0") as server:
        with server.client() as client:
            data = {"message": "sweeper Expiry", "stream": "false", "background": "true"}
            assert client.post("/agents/saboteur/runs", data=data).status_code == 202
        assert server.wait_for_end() == 1
    assert "background task died" in server.output
    # Given back: its call had begun, and nobody knows how far it came.
    assert server.rows("SELECT status FROM runs ORDER BY id DESC LIMIT 1") == [("PENDING",)]
