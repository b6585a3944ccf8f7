"""The work of ``unpause worker``: from checked settings to the end of the process."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Any

import structlog

from unpause.agents.setup.shell import find_command_user
from unpause.bootstrap import build_application
from unpause.cli.logs import configure_logging, log_uncaught
from unpause.cli.metrics_port import serving_metrics
from unpause.cli.printing import printing_to_log
from unpause.cli.process import freeze_loaded, run_main
from unpause.cli.start_log import announce_ready, announce_start
from unpause.errors import InvalidSetting
from unpause.factories import build_agents, build_redaction, load_vault
from unpause.store.engine.database import database_file
from unpause.store.engine.schema import check_database
from unpause.tasks import TaskScope
from unpause.telemetry.exporting import start_tracing, stop_tracing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unpause.agents.process.launch import LaunchedProcess
    from unpause.bootstrap import Application
    from unpause.settings import Settings

_log = structlog.get_logger(__name__)


def run_worker(settings: Settings, launched: Sequence[LaunchedProcess]) -> None:
    """Execute runs of the agents of the processes that were launched; raise a ``Startup`` error."""
    if database_file(settings.database_url) is not None:
        raise InvalidSetting("a worker shares its database with servers, which needs PostgreSQL: see --database-url")
    load_vault(settings)
    find_command_user(settings.command_user)
    configure_logging(build_redaction(settings), readable=settings.readable_logs, level=settings.log_level)
    log_uncaught()
    if settings.traces:
        start_tracing()
    with printing_to_log(settings):
        agents = build_agents(settings, launched, demo=False)
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


async def _become_ready(application: Application) -> None:
    """Wait for the agents, and say that they are loaded. Raises InvalidSetting for agents that cannot be served."""
    # A request to reload, while the agents are being loaded, must not end the process.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    await application.agents.wait_until_loaded()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, application.reload_agents)
    freeze_loaded()
    announce_ready(application, "Unpause worker is ready\n")


async def _work(application: Application) -> None:
    stop: asyncio.Future[signal.Signals] = asyncio.get_running_loop().create_future()

    def on_signal(number: signal.Signals) -> None:
        if not stop.done():
            stop.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    announce_start(application)
    async with application.running(), serving_metrics(application):
        async with TaskScope() as tasks:
            becoming_ready = tasks.start(_become_ready(application), "start")
            waiting: list[asyncio.Future[Any]] = [becoming_ready, stop]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if becoming_ready.done():
                becoming_ready.result()
            received = await stop
        _log.info("process stopping", signal=received.name)
        application.workers.stop_claiming()
    await asyncio.to_thread(stop_tracing)
    _log.info("process stopped")
    # Everything is closed: end by the signal, as a server does, without waiting for the thread of a stuck tool.
    signal.signal(received, signal.SIG_DFL)
    signal.raise_signal(received)
