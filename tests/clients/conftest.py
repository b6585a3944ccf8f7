"""The server and the published clients that these tests bring together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from tests.support.processes import ServerProcess
from tests.support.scenario_process import AgnoClient

AGENTS_FILE = Path(__file__).with_name("agents_file.py")

# The version of the contract, and at night the newest one when this was written.
VERSIONS = [
    pytest.param("2.5.6", id="agno-2.5.6"),
    pytest.param("3.1.10", id="agno-3.1.10", marks=pytest.mark.full),
]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Return a server process with the agents `desk` and `other`; every test brings its own names."""
    with ServerProcess(tmp_path_factory.mktemp("server"), "--agents", AGENTS_FILE) as process:
        yield process


@pytest.fixture
def http(server: ServerProcess) -> Iterator[httpx.Client]:
    """Return a plain HTTP client of the server."""
    with server.client() as client:
        yield client


@pytest.fixture(scope="session", params=VERSIONS)
def client(request: pytest.FixtureRequest, server: ServerProcess) -> Iterator[AgnoClient]:
    """Return the published client of each version, connected to the server."""
    version: str = request.param
    with AgnoClient(version, server.address) as found:
        yield found


@pytest.fixture
def name() -> str:
    """Return a name that nothing else in the server has."""
    return uuid4().hex


@pytest.fixture
def calls(server: ServerProcess, name: str) -> Callable[[], list[str]]:
    """Return what tells, in order, what the tools did to the name of this test, with NAME in its place."""

    def read() -> list[str]:
        file = server.folder / "calls.txt"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        return [line.replace(name, "NAME") for line in lines if name in line]

    return read
