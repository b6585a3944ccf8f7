"""A conversation with the toolbox over AG-UI."""

from __future__ import annotations

import pytest

from tests.support.ag_ui import AgUiThread
from tests.support.server import Server


@pytest.fixture
def thread(server: Server) -> AgUiThread:
    """Return a new conversation of everybody, who is an administrator."""
    return AgUiThread(server)
