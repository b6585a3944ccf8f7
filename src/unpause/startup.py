"""From settings and agents to an application that runs inside another program's event loop, and back to nothing."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

from unpause.agents.config import agents_config
from unpause.agents.process.launch import launched_agents
from unpause.agents.setup.shell import find_command_user
from unpause.auth.first_token import make_first_token
from unpause.bootstrap import build_application
from unpause.clock import SystemClock
from unpause.errors import InvalidSetting
from unpause.factories import build_agents, build_redaction, load_jwts, load_vault
from unpause.lazy import LazyModule
from unpause.store.engine.database import database_file
from unpause.store.engine.ownership import own_database, prepare_database
from unpause.tasks import TaskScope
from unpause.telemetry.host_logs import logging_through_host

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from unpause.agents import hosting
    from unpause.agents.served import Agents
    from unpause.bootstrap import Application
    from unpause.settings import Settings
else:
    hosting = LazyModule("unpause.agents.hosting")

_STOP_SECONDS: Final = 0.2


def check_settings(settings: Settings) -> None:
    """Raise InvalidSetting for settings that cannot work, before anything changes."""
    if not settings.worker and database_file(settings.database_url) is not None:
        raise InvalidSetting("--no-worker needs separate workers, and those need PostgreSQL: see --database-url")
    load_vault(settings)
    load_jwts(settings, SystemClock())
    find_command_user(settings.command_user)


@asynccontextmanager
async def running_application(settings: Settings, agents: Sequence[Any]) -> AsyncIterator[Application]:
    """Run an application for these agents during the block: Pydantic AI agents, or without any those of the settings.

    The SQLite file belongs to this process until the end of the block, when all tasks and processes have ended. Raises
    a ``Startup`` error.
    """
    check_settings(settings)
    with logging_through_host(build_redaction(settings).hide), _agents_of(settings, agents) as served:
        lock = own_database(settings.database_url)
        try:
            await asyncio.to_thread(prepare_database, settings.database_url)
            application = build_application(settings, served)
            async with application.running(), TaskScope() as tasks:
                await application.agents.wait_until_loaded()
                if not settings.dev:
                    await asyncio.to_thread(make_first_token, settings.database_url, settings.first_token_file)
                tasks.start(_drain_at_stop(application), "drain at the stop of the server")
                yield application
        finally:
            if lock is not None:
                lock.release()


@contextmanager
def _agents_of(settings: Settings, agents: Sequence[Any]) -> Iterator[Agents]:
    """Yield the agents: objects run in this process, those of modules and files as the settings say."""
    if agents:
        # As in build_agents: Pydantic AI is loaded only where agents are.
        yield hosting.host_objects(
            agents, agents_config(settings, demo=False), build_redaction(settings), SystemClock()
        )
        return
    with launched_agents(settings, demo=False) as launched:
        yield build_agents(settings, launched, demo=False)


async def _drain_at_stop(application: Application) -> None:
    """End the open streams when uvicorn begins to stop: it waits for them before it ends the lifespan."""
    while not _is_stopping():  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(_STOP_SECONDS)
    await application.drain()


def _is_stopping() -> bool:
    """Whether uvicorn has got its signal: it is the owner of the handler, and tells an application in no other way."""
    handler = signal.getsignal(signal.SIGTERM)
    return bool(getattr(getattr(handler, "__self__", None), "should_exit", False))
