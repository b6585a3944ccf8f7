"""One server process for each module that has none of its own."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.support.agent_processes import HOSTS
from tests.support.processes import ServerProcess


@pytest.fixture(scope="module", params=HOSTS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("server")
    with ServerProcess(folder, "--keepalive-seconds", "1", "--agent-processes", request.param) as server:
        yield server


@pytest.fixture
def client(server: ServerProcess) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client
