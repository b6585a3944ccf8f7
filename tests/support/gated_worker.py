"""Servers of the agent ``worker`` (see gates.py) on one database: tests hold it still at named places."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.gates import GatedDriver, Gates, working_agent
from tests.support.serving import running
from unpause.agents.pydantic_ai.driver import DriverOptions, PydanticAIDriver
from unpause.agents.redaction import Redaction
from unpause.bootstrap import Application
from unpause.clock import RandomIds


class GatedWorker:
    """The working agent on a database, behind gates."""

    def __init__(self, folder: Path, *gates: str, database_url: str | None = None) -> None:
        self.gates = Gates(*gates)
        self.executed: list[str] = []
        self._folder = folder
        self._url = database_url

    @asynccontextmanager
    async def opened(self, **changes: Any) -> AsyncIterator[Application]:  # noqa: ANN401 - any setting
        """Serve the agent; again is a restart."""
        agent = working_agent(self.executed, self.gates)
        driver = GatedDriver(PydanticAIDriver(agent, DriverOptions(RandomIds(), Redaction({}))), self.gates)
        changes = {"shutdown_grace_seconds": 0.0, "database_url": self._url, **changes}
        async with running(self._folder, drivers=[driver], **changes) as application:
            yield application
