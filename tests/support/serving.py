"""Servers for tests: the whole application on a real SQLite file, spoken to over ASGI."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from pydantic_ai import Agent

from tests.support.framed import FramedHost
from tests.support.published import CHECKED
from unpause.agents.config import agents_config
from unpause.agents.driver import AgentDriver
from unpause.agents.hosting import agents_of, driver_options
from unpause.agents.pydantic_ai.driver import DriverOptions, PydanticAIDriver
from unpause.api.app import create_app
from unpause.bootstrap import Application, build_application
from unpause.clock import Clock, SystemClock
from unpause.factories import build_redaction
from unpause.settings import Settings
from unpause.testing.environment import GivenSettings, migrated_sqlite_file

ADDRESS = "http://127.0.0.1"


def settings_for(folder: Path, **changes: Any) -> Settings:  # noqa: ANN401 - any setting
    """Return settings with a database file in ``folder``, its schema made, unless ``database_url`` is given."""
    file = folder / "unpause.db"
    if changes.get("database_url") is None:
        changes["database_url"] = f"sqlite:///{file}"
    usual: dict[str, Any] = {
        "shutdown_grace_seconds": 2.0,
        # Nobody is asked for a token; tests of tokens say otherwise.
        "dev": True,
    }
    settings = GivenSettings(**{**usual, **changes})
    if not file.exists() and settings.database_url.startswith("sqlite"):
        shutil.copyfile(migrated_sqlite_file(), file)
    return settings


def options_for(settings: Settings) -> DriverOptions:
    """Return what the settings say about all agents alike."""
    return driver_options(agents_config(settings, demo=False), build_redaction(settings))


def application_for(
    settings: Settings, agents: Sequence[Agent[Any, Any] | AgentDriver] = (), clock: Clock | None = None
) -> Application:
    """Return an application for these agents; with UNPAUSE_TEST_FRAMED they are behind an agent process's frames."""
    options, config = options_for(settings), agents_config(settings, demo=False)
    drivers = [PydanticAIDriver(agent, options) if isinstance(agent, Agent) else agent for agent in agents]
    served = agents_of(drivers, config, options, clock or SystemClock())
    if os.environ.get("UNPAUSE_TEST_FRAMED"):
        served = FramedHost(served.drivers, served.setup_commands).agents()
    return build_application(settings, served, clock)


@asynccontextmanager
async def running(
    folder: Path,
    agents: Sequence[Agent[Any, Any]] = (),
    drivers: Sequence[AgentDriver] = (),
    **changes: Any,  # noqa: ANN401 - any setting
) -> AsyncIterator[Application]:
    """Run an application without HTTP for the length of the block."""
    settings = settings_for(folder, **changes)
    application = application_for(settings, [*agents, *drivers])
    async with application.running():
        yield application


@asynccontextmanager
async def serving(
    folder: Path,
    agents: Sequence[Agent[Any, Any]] = (),
    drivers: Sequence[AgentDriver] = (),
    seen: Callable[[Application], None] | None = None,
    **changes: Any,  # noqa: ANN401 - any setting
) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the agents for the length of the block; the same ``folder`` again is a restart on the same database.

    Note that httpx's ASGI transport hands a body over only when it is complete: a test of what a client sees while a
    stream is open needs a server process (``tests/support/processes.py``).
    """
    async with running(folder, agents, drivers, **changes) as application:
        if seen is not None:
            seen(application)
        app = create_app(application)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS, event_hooks=CHECKED) as client:
            yield client
