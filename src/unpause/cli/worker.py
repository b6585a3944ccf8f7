"""``unpause worker``: executes runs for the servers that share its database, until stopped."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

from unpause.agents.setup.shell import find_command_user
from unpause.bootstrap import build_application
from unpause.cli.logs import configure_logging
from unpause.cli.options import settings_command
from unpause.cli.process import freeze_loaded, protect_memory, run_main
from unpause.errors import InvalidSetting
from unpause.factories import build_redaction, load_vault, started_agents
from unpause.settings import (
    AgentProcessSettings,
    AgentSettings,
    DatabaseSettings,
    ExecutionSettings,
    PauseSettings,
    ProcessSettings,
    Settings,
    SetupCommandSettings,
    WebhookSettings,
)
from unpause.store.engine.database import database_file
from unpause.store.engine.schema import check_database

if TYPE_CHECKING:
    from unpause.bootstrap import Application


# What a process needs that executes runs and listens on no port.
_GROUPS = (
    ProcessSettings,
    AgentSettings,
    AgentProcessSettings,
    DatabaseSettings,
    ExecutionSettings,
    PauseSettings,
    WebhookSettings,
    SetupCommandSettings,
)


def _start(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT; raise a ``Startup`` error for anything that makes that impossible."""
    protect_memory()
    if not settings.agents:
        raise InvalidSetting("no agents to execute: name a module or file with --agents")
    if database_file(settings.database_url) is not None:
        raise InvalidSetting("a worker shares its database with servers, which needs PostgreSQL: see --database-url")
    if not settings.worker:
        raise InvalidSetting("a worker with --no-worker would do nothing")
    load_vault(settings)
    find_command_user(settings.command_user)
    configure_logging(build_redaction(settings), readable=settings.dev)
    with started_agents(settings, demo=False) as agents:
        check_database(settings.database_url)
        _run(build_application(settings, agents))


def _run(application: Application) -> None:
    try:
        run_main(_work(application))
    except BaseExceptionGroup:
        if not application.pulse.has_died:
            raise
        # The log names the part and the reason; the runs are released.
        sys.exit(1)


worker = settings_command(_start, _GROUPS, without={"worker"})


async def _work(application: Application) -> None:
    stop: asyncio.Future[signal.Signals] = asyncio.get_running_loop().create_future()

    def on_signal(number: signal.Signals) -> None:
        if not stop.done():
            stop.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, application.reload_agents)
    async with application.running():
        freeze_loaded()
        sys.stdout.write("Unpause worker is ready\n")
        sys.stdout.flush()
        received = await stop
        application.workers.stop_claiming()
    # Everything is closed: end by the signal, as a server does, without waiting for the thread of a stuck tool.
    signal.signal(received, signal.SIG_DFL)
    signal.raise_signal(received)
