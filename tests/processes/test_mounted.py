"""``create_app`` under uvicorn, in a process of its own: its lifespan, its streams at a stop, its agent processes."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.agent_processes import agent_processes_of
from tests.support.processes import DEADLINE, clean_environment
from unpause.testing.environment import migrated_sqlite_file

HOST = """
from fastapi import FastAPI
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel
from unpause import combine_lifespans, create_app

agent = Agent(TestModel(custom_output_text="here"), name="here")


@agent.tool_plain(requires_approval=True)
def restart() -> str:
    return "up"


here = create_app(agents=[agent], dev=True, database_url="sqlite:///here.db", shutdown_grace_seconds=1.0)
there = create_app(agents=["there.py"], dev=True, database_url="sqlite:///there.db", agent_processes=1)
app = FastAPI(lifespan=combine_lifespans(here.lifespan, there.lifespan))
app.mount("/here", here)
app.mount("/there", there)
"""
THERE = """
from pydantic_ai import Agent
from pydantic_ai.models.test import TestModel

there = Agent(TestModel(custom_output_text="elsewhere"), name="there")
"""


@contextmanager
def uvicorn(folder: Path, app: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Serve the app of ``host.py``, with every warning an error; yield its process and its address."""
    (folder / "host.py").write_text(HOST, encoding="utf-8")
    (folder / "there.py").write_text(THERE, encoding="utf-8")
    for name in ("here.db", "there.db"):
        (folder / name).write_bytes(migrated_sqlite_file().read_bytes())
    environment = clean_environment()
    del environment["UNPAUSE_AGENT_PROCESSES"], environment["UNPAUSE_AGENT_ENV"]
    command = [sys.executable, "-X", "dev", "-m", "uvicorn", app, "--port", "0"]
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            lines: list[str] = []
            for line in process.stderr:
                lines.append(line)
                if found := re.search(r"running on (http://\S+)", line):
                    yield process, found[1]
                    break
            else:
                raise AssertionError("".join(lines))
        finally:
            process.kill()


@pytest.mark.full
@pytest.mark.parametrize(("app", "prefix"), [("host:app", "/here"), ("host:here", "")])
def test_uvicorn_serves_it_and_a_stop_ends_its_streams_and_processes(tmp_path: Path, app: str, prefix: str) -> None:
    with uvicorn(tmp_path, app) as (process, address), httpx.Client(base_url=address, timeout=DEADLINE) as client:
        run = client.post(f"{prefix}/agents/here/runs", data={"message": "go", "stream": "false"}).json()
        assert run["status"] == "PAUSED"
        if app == "host:app":
            ended = client.post("/there/agents/there/runs", data={"message": "go", "stream": "false"}).json()
            assert ended["content"] == "elsewhere"
        processes = agent_processes_of(process.pid)
        assert bool(processes) is (app == "host:app")

        streams = [f"{prefix}/inbox/events", f"{prefix}/agents/here/runs/{run['run_id']}/events?follow=true"]
        followers, open_streams = [], threading.Semaphore(0)
        for path in streams:
            follower = threading.Thread(target=_follow, args=(address, path, open_streams))
            follower.start()
            followers.append(follower)
        for _ in streams:
            assert open_streams.acquire(timeout=DEADLINE)
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE) in {0, -signal.SIGTERM}
        for follower in followers:
            follower.join(DEADLINE)
            assert not follower.is_alive()
        assert process.stderr is not None
        rest = process.stderr.read()
    assert not re.search(r"Traceback|Warning|never (awaited|retrieved)", rest), rest
    assert not [pid for pid in processes if Path(f"/proc/{pid}").exists()]


def _follow(address: str, path: str, open_streams: threading.Semaphore) -> None:
    """Read a stream to its end."""
    with httpx.stream("GET", f"{address}{path}", timeout=DEADLINE) as answer:
        assert answer.status_code == 200
        open_streams.release()
        for _ in answer.iter_raw():
            pass
