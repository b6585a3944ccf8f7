"""``unpause serve --reload``: new code is served when its files are saved, and neither the API nor a run notices."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.agent_processes import agent_processes_of
from tests.support.processes import DEADLINE, ServerProcess, unpause
from unpause.testing.environment import migrated_sqlite_file

AGENTS = """
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
from tools import restart

ops = Agent(TestModel(custom_output_text="{text}"), name="ops", tools=[{tools}])
{name} = Agent(TestModel(custom_output_text="hello"), name="{name}")
"""
TOOLS = """
import os
from pathlib import Path
from pydantic_ai import Tool

def _restart(service: str) -> str:
    \"\"\"{text}\"\"\"
    folder = Path(os.environ["TEST_FOLDER"])
    with (folder / "calls").open("a") as calls:
        calls.write("{text}\\n")
    while (folder / "wait").exists():
        pass
    return "{text}"

restart = Tool(_restart, name="restart", requires_approval=True)
"""


class Project:
    """A folder with agents, and the server that watches it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "unpause.db").write_bytes(migrated_sqlite_file().read_bytes())
        self.save_tools("old")
        self.save_agents(text="old", name="first")
        self.server = ServerProcess(folder, "--agents", "agents.py", "--agent-processes", "1", "--reload")

    def save_agents(self, *, text: str, name: str, tools: str = "restart") -> None:
        """Save as editors do that write another file first."""
        self.save("agents.py", AGENTS.format(text=text, name=name, tools=tools))

    def save_tools(self, text: str) -> None:
        self.save("tools.py", TOOLS.format(text=text))

    def save(self, name: str, text: str) -> None:
        """Write a file as a whole: one that is half written would be loaded, and refused."""
        written = self.folder / f".{name}.new"
        written.write_text(text, encoding="utf-8")
        written.rename(self.folder / name)

    @contextmanager
    def reloaded(self, event: str = "agents reloaded") -> Iterator[None]:
        """Wait at the end of the block for one more such line of the log."""
        before = self.server.output.count(event)
        yield
        wait_until(lambda: self.server.output.count(event) > before)


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    project = Project(tmp_path_factory.mktemp("project"))
    with project.server:
        yield project


@pytest.fixture
def client(project: Project) -> Iterator[httpx.Client]:
    with project.server.client() as client:
        yield client


def start(client: httpx.Client) -> dict[str, Any]:
    answer = client.post("/agents/ops/runs", data={"message": "go", "stream": "false"})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def approve(client: httpx.Client, run: dict[str, Any]) -> dict[str, Any]:
    call = run["tools"][0]["tool_call_id"]
    data = {"tools": f'[{{"tool_call_id":"{call}","confirmed":true}}]', "stream": "false"}
    return dict(client.post(f"/agents/ops/runs/{run['run_id']}/continue", data=data).json())


@contextmanager
def asking(project: Project) -> Iterator[list[int]]:
    """Ask the API again and again during the block, and yield the status of each answer."""
    statuses: list[int] = []
    is_over = threading.Event()

    def ask() -> None:
        with project.server.client() as client:
            while not is_over.wait(0.02):
                statuses.append(client.get("/agents/ops").status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield statuses
    finally:
        is_over.set()
        thread.join(DEADLINE)


def test_new_code_takes_over_and_goes_on_with_runs_that_wait(project: Project, client: httpx.Client) -> None:
    paused = start(client)
    with asking(project) as statuses:
        with project.reloaded():
            # In this order: where the agents are seen to be new, what they import is.
            project.save_tools("new")
            project.save_agents(text="new", name="second")
        wait_until(lambda: "new" in client.get("/agents/ops").text)
        assert [agent["id"] for agent in client.get("/agents").json()] == ["ops", "second"]
        assert client.post("/agents/first/runs", data={"message": "go"}).status_code == 404
        ended = approve(client, paused)
        assert (ended["status"], ended["content"]) == ("COMPLETED", "new")
        assert (project.folder / "calls").read_text().split() == ["new"]

        with project.reloaded("agents not reloaded"):
            project.save("tools.py", "restart = (\n")
        line = next(line for line in project.server.output.splitlines() if "agents not reloaded" in line)
        assert re.search(r"SyntaxError.*tools\.py(:|, line )1\b", line)
        assert start(client)["status"] == "PAUSED"
        with project.reloaded():
            project.save_tools("mended")
        assert start(client)["tools"][0]["tool_name"] == "restart"
    assert set(statuses) == {200}
    assert project.server.output.count("agents not reloaded") == 1
    assert "for development only" in project.server.output


def test_a_reload_without_agent_processes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "agents.py").write_text("", encoding="utf-8")
    ended = unpause("serve", "--agents", "agents.py", "--reload", "--agent-processes", "0", folder=tmp_path)
    assert ended.returncode == 2
    assert "--reload loads agents anew in new agent processes" in ended.stderr
    assert not (tmp_path / "unpause.db").exists()


@pytest.mark.full
def test_a_segment_that_runs_ends_in_the_old_code_and_its_tool_runs_once(
    project: Project, client: httpx.Client
) -> None:
    calls, wait = project.folder / "calls", project.folder / "wait"
    calls.unlink(missing_ok=True)
    wait.touch()
    with project.reloaded():
        project.save_tools("before")
    paused = start(client)
    answers: list[dict[str, Any]] = []
    continuing = threading.Thread(target=lambda: answers.append(approve(client, paused)))
    continuing.start()
    wait_until(calls.exists)
    with project.reloaded():
        project.save_tools("after")
    wait.unlink()
    continuing.join(DEADLINE)
    assert (answers[0]["status"], calls.read_text().split()) == ("COMPLETED", ["before"])


@pytest.mark.full
def test_a_run_whose_tool_is_gone_waits_again_until_it_is_back(project: Project, client: httpx.Client) -> None:
    calls = project.folder / "calls"
    calls.unlink(missing_ok=True)
    paused = start(client)
    with project.reloaded():
        project.save_agents(text="without", name="second", tools="")
    waiting = approve(client, paused)
    assert waiting["status"] == "PAUSED"
    assert "restart is not available" in waiting["content"]
    assert not calls.exists()
    assert start(client)["content"] == "without"
    with project.reloaded():
        project.save_agents(text="with", name="second")
    assert approve(client, waiting)["status"] == "COMPLETED"
    assert len(calls.read_text().splitlines()) == 1


@pytest.mark.full
def test_a_new_generation_that_is_killed_is_replaced(project: Project, client: httpx.Client) -> None:
    with project.reloaded():
        project.save_tools("killed")
    for pid in agent_processes_of(project.server.pid):
        os.kill(pid, signal.SIGKILL)
    assert start(client)["status"] == "PAUSED"


@pytest.mark.full
def test_code_that_never_loads_gives_way_to_the_next_save(project: Project, client: httpx.Client) -> None:
    (project.folder / "tools.py").write_text("while True: pass\n", encoding="utf-8")
    time.sleep(1)
    with project.reloaded():
        project.save_tools("ends")
    assert start(client)["status"] == "PAUSED"


@pytest.mark.full
@pytest.mark.parametrize("text", ["while True: pass\n", TOOLS.format(text="stopping")])
def test_a_stop_during_a_reload_leaves_no_process(tmp_path: Path, text: str) -> None:
    project = Project(tmp_path)
    with project.server as server:
        before = agent_processes_of(server.pid)
        (tmp_path / "tools.py").write_text(text, encoding="utf-8")
        wait_until(lambda: bool(agent_processes_of(server.pid) - before))
        processes = agent_processes_of(server.pid)
        assert server.stop() == -signal.SIGTERM
    assert not [pid for pid in processes if Path(f"/proc/{pid}").exists()]
    assert "Traceback" not in server.output
