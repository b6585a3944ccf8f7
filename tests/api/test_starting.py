"""A server opens its port before its routes are loaded: what it answers until then."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.ports import free_port
from tests.support.processes import clean_environment
from tests.support.serving import ADDRESS, running
from unpause.api import app as api
from unpause.api.starting import StartingApp

if TYPE_CHECKING:
    from fastapi import FastAPI

    from unpause.bootstrap import Application

ANSWERS = {"/ready": 200, "/config": 200, "/v1/organizations": 200, "/console": 200, "/nowhere": 404}

_SERVE_WITHOUT_ROUTES = """
import sys
from unpause.cli.main import main
# To Python, a module that is None here is not installed.
sys.modules["unpause.api.routes"] = None
main(sys.argv[1:])
"""

_SERVE_ON_A_FULL_DISK = """
import sys
from unpause import bootstrap
from unpause.cli.main import main
from unpause.errors import DatabaseFull

def fail(_):
    raise DatabaseFull

bootstrap.marked_in_use = fail
main(sys.argv[1:])
"""


@asynccontextmanager
async def starting(folder: Path) -> AsyncIterator[tuple[StartingApp, httpx.AsyncClient]]:
    async with running(folder) as application:
        app = StartingApp(application)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=ADDRESS) as client:
            yield app, client


async def test_the_health_check_is_answered_at_once_and_every_other_request_once_the_routes_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_load = threading.Event()
    create_app = api.create_app

    def create_late(application: Application) -> FastAPI:
        may_load.wait(30)
        return create_app(application)

    monkeypatch.setattr(api, "create_app", create_late)
    async with starting(tmp_path) as (app, client):
        waiting = {path: asyncio.create_task(client.get(path)) for path in ANSWERS}
        foreign = asyncio.create_task(client.get("/health", headers={"Origin": "https://elsewhere.example"}))
        rebound = asyncio.create_task(client.get("/health", headers={"Host": "elsewhere.example"}))
        method = asyncio.create_task(client.post("/health"))
        assert (await client.get("/health")).json()["status"] == "ok"
        loading = asyncio.create_task(app.load())
        health = await client.get("/health", headers={"X-Request-ID": "probe-1"})
        fields = ("x-content-type-options", "x-request-id")
        assert (health.status_code, *map(health.headers.get, fields)) == (200, "nosniff", "probe-1")
        assert not any(request.done() for request in (*waiting.values(), foreign, rebound, method))
        may_load.set()
        await loading
        assert {path: (await request).status_code for path, request in waiting.items()} == ANSWERS
        assert [(await each).status_code for each in (foreign, rebound, method)] == [403, 403, 405]


async def test_a_request_gets_no_answer_of_an_application_whose_routes_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Application) -> FastAPI:
        raise ImportError("a file of the installation is missing")

    monkeypatch.setattr(api, "create_app", fail)
    async with starting(tmp_path) as (app, client):
        waiting = asyncio.create_task(client.get("/config"))
        await client.get("/health")
        with pytest.raises(ImportError, match="a file of the installation is missing"):
            await app.load()
        for request in (waiting, client.get("/config")):
            with pytest.raises(RuntimeError, match="the routes could not be loaded"):
                await request


def demo(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run the demo's server by this program, until it ends by itself."""
    return subprocess.run(
        [sys.executable, "-c", program, "demo", "--port", str(free_port())],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_server_that_cannot_begin_its_work_says_in_its_last_line_why(tmp_path: Path) -> None:
    served = demo(tmp_path, _SERVE_ON_A_FULL_DISK)
    assert served.returncode == 2
    reason = "unpause: the server could not start: The database's disk is full: nothing was changed"
    assert served.stderr.splitlines()[-1] == reason
    # It is known: nobody needs to see where in the code.
    assert "Traceback" not in served.stderr


@pytest.mark.parametrize("output", ["unread", "full", "ascii"])
def test_a_server_serves_though_its_address_cannot_be_printed(tmp_path: Path, output: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    into = {"unread": writing, "full": os.open("/dev/full", os.O_WRONLY), "ascii": os.open(os.devnull, os.O_WRONLY)}
    environment = {**clean_environment(), **({"PYTHONIOENCODING": "ascii"} if output == "ascii" else {})}
    command = [sys.executable, "-m", "unpause", "demo", "--port", str(free_port())]
    server = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=into[output], stderr=subprocess.PIPE, text=True
    )
    try:
        assert server.stderr is not None
        lines = [*takewhile(lambda line: "process ready" not in line, server.stderr)]
        assert server.poll() is None, "".join(lines)
    finally:
        server.kill()
        server.communicate()
        for descriptor in into.values():
            os.close(descriptor)


def test_a_server_ends_with_the_reason_if_its_routes_cannot_be_loaded(tmp_path: Path) -> None:
    served = demo(tmp_path, _SERVE_WITHOUT_ROUTES)
    assert served.returncode == 1
    assert "unpause.api.routes" in served.stderr
    assert "Unpause is ready" not in served.stdout
