"""While agents load in their processes: what the server answers, how it refuses, and how other agents arrive."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.ports import free_port
from tests.support.processes import DEADLINE, TRUSTS_NOBODY, ServerProcess, unpause
from unpause.testing.environment import migrated_sqlite_file

AGENT = """
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

{name} = Agent(TestModel(custom_output_text="done"), name="{name}")
"""
# Loads once the test allows it.
SLOW = """
import os, time
from pathlib import Path

while not (Path(os.environ["TEST_FOLDER"]) / "go").exists():
    time.sleep(0.02)
""" + AGENT.format(name="slow")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "unpause.db").write_bytes(migrated_sqlite_file().read_bytes())
    return tmp_path


@contextmanager
def loading(folder: Path) -> Iterator[tuple[ServerProcess, httpx.Client]]:
    """Yield a server whose port is open and whose agents load once there is a file named go."""
    (folder / "slow.py").write_text(SLOW, encoding="utf-8")
    port = free_port()
    server = ServerProcess(folder, "--agents", "slow.py", "--agent-processes", "1", "--port", str(port))
    starting = threading.Thread(target=server.__enter__)
    starting.start()
    try:
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE, trust_env=False, verify=TRUSTS_NOBODY
        ) as client:
            wait_for_port(client)
            yield server, client
    finally:
        (folder / "go").touch()
        starting.join(DEADLINE)
        server.__exit__(None, None, None)


def wait_for_port(client: httpx.Client) -> None:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        try:
            assert client.get("/health").status_code == 200
        except httpx.ConnectError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError


def test_the_port_is_open_before_agents_are_loaded_and_requests_for_them_wait(folder: Path) -> None:
    with loading(folder) as (server, client):
        ready = client.get("/ready")
        assert (ready.status_code, ready.json()["reason"]) == (503, "The agents are being loaded")
        assert ready.headers["retry-after"] == "1"
        assert "ready on" not in server.output
        # What needs no agent is answered.
        assert client.get("/sessions").status_code == 200

        refused = client.get("/agents/slow")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "loading its agents" in refused.json()["detail"]
        body = {"prompt": "go"}
        refused = client.post("/v1/organizations/1/agent/run", json=body)
        assert refused.status_code == refused.json()["status_code"] == 503

        threading.Timer(0.5, (folder / "go").touch).start()
        run = client.post("/agents/slow/runs", data={"message": "go", "stream": "false"})
        assert (run.status_code, run.json()["status"]) == (200, "COMPLETED")
        assert client.get("/ready").status_code == 200
        assert client.get("/agents/other").status_code == 404


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ("raise ValueError('not today')\n", (), "broken.py failed to load: ValueError: not today"),
        pytest.param(
            AGENT.format(name="one"),
            ("--default-agent", "two"),
            "default_agent 'two' is not served here; served: one",
            marks=pytest.mark.full,
        ),
        pytest.param(
            AGENT.format(name="one"),
            ("--repo-agents", "1=two"),
            "repo_agents: agent 'two' is not served here",
            marks=pytest.mark.full,
        ),
    ],
)
def test_agents_that_cannot_be_served_end_a_server_whose_port_is_open(
    folder: Path, text: str, options: tuple[str, ...], reason: str
) -> None:
    (folder / "broken.py").write_text(text, encoding="utf-8")
    arguments = ("--agents", "broken.py", "--agent-processes", "1", "--port", "0", *options)
    ended = unpause("serve", *arguments, folder=folder)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert reason in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("unpause: ")


@pytest.mark.full
def test_a_hangup_serves_new_agents_and_no_more_those_that_are_gone(folder: Path) -> None:
    agents = folder / "agents.py"
    agents.write_text(AGENT.format(name="first"), encoding="utf-8")
    with (
        ServerProcess(folder, "--agents", "agents.py", "--agent-processes", "1") as server,
        server.client() as client,
    ):
        for name, text in (("second", AGENT.format(name="second")), ("second", "raise ValueError('not today')\n")):
            agents.write_text(text, encoding="utf-8")
            reloads = server.output.count("reloaded")
            server.send(signal.SIGHUP)
            wait_until_reloaded(server, reloads + 1)
            assert [agent["id"] for agent in client.get("/agents").json()] == [name]
            assert client.post("/agents/first/runs", data={"message": "go"}).status_code == 404
            run = client.post(f"/agents/{name}/runs", data={"message": "go", "stream": "false"})
            assert run.json()["status"] == "COMPLETED"
    assert "agents not reloaded" in server.output
    assert "ValueError: not today" in server.output


def wait_until_reloaded(server: ServerProcess, times: int) -> None:
    deadline = time.monotonic() + DEADLINE
    while server.output.count("reloaded") < times:
        assert time.monotonic() < deadline
        time.sleep(0.05)
