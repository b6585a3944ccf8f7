"""The server of most tests of the APIs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.server import Server, served


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """Serve the toolbox on SQLite; everybody is an administrator."""
    async with served(tmp_path) as server:
        yield server
