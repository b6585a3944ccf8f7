"""The server of ``unpause serve`` and ``unpause demo``: from checked settings to the end of the process."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import suppress
from math import ceil
from typing import TYPE_CHECKING

import structlog
import uvicorn

from unpause.api.starting import StartingApp
from unpause.auth.first_token import make_first_token
from unpause.bootstrap import build_application
from unpause.cli.connections import TimedApp, TimedConnection
from unpause.cli.exits import reason_of
from unpause.cli.loading import loading_routes
from unpause.cli.logs import configure_logging, log_uncaught
from unpause.cli.metrics_port import serving_metrics
from unpause.cli.printing import printing_to_log
from unpause.cli.process import freeze_loaded, run_main
from unpause.cli.start_log import announce_ready, announce_start
from unpause.errors import InvalidSetting
from unpause.factories import build_agents, build_redaction
from unpause.startup import check_settings
from unpause.store.engine.backup import lacks_changes
from unpause.store.engine.database import database_file
from unpause.store.engine.ownership import own_database, prepare_database
from unpause.tasks import TaskScope, background_tasks
from unpause.telemetry.exporting import start_tracing, stop_tracing

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from types import FrameType

    from unpause.agents.process.launch import LaunchedProcess
    from unpause.agents.served import Agents
    from unpause.bootstrap import Application
    from unpause.settings import Settings

_log = structlog.get_logger(__name__)

# How long an idle connection stays open between two requests.
_KEEP_ALIVE_SECONDS = 15
# More than ``HeadLimit`` accepts, so that a client usually gets its answer, and not a closed connection.
_LARGEST_HEAD_BYTES = 512 * 1024
# How often uvicorn renews the date in its answers.
_TICK_SECONDS = 1.0


class _Server(uvicorn.Server):
    """Prints its address when its agents are loaded; ends streams when it stops."""

    def __init__(self, config: uvicorn.Config, application: Application, app: StartingApp, hints: str = "") -> None:
        super().__init__(config)
        self._application = application
        self._app = app
        self._hints = hints
        self._becoming_ready: asyncio.Task[None] | None = None
        self._wakeup = asyncio.Event()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until stopped. Raises InvalidSetting for agents that turn out to be impossible."""
        self._loop = asyncio.get_running_loop()
        async with serving_metrics(self._application), TaskScope() as self._tasks:
            await super().serve(sockets)
            if self._becoming_ready is not None and self._becoming_ready.done():
                self._becoming_ready.result()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more requests and claim no more runs, and wait for open responses."""
        _log.info("process stopping")
        async with background_tasks() as tasks:
            draining = tasks.create_task(self._application.drain(), name="drain")
            await super().shutdown(sockets)
            draining.cancel()
        # The signal ends the process right after this.
        await asyncio.to_thread(stop_tracing)
        _log.info("process stopped")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop, as uvicorn does, without waiting for the next tick."""
        super().handle_exit(sig, frame)
        # The event loop may be waiting for its sockets.
        self._loop.call_soon_threadsafe(self._wakeup.set)

    async def main_loop(self) -> None:
        """Look once a second whether to stop: uvicorn looks ten times, which an idle process notices."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(_TICK_SECONDS):
                    await self._wakeup.wait()
            self._wakeup.clear()

    async def on_tick(self, counter: int) -> bool:
        """Stop also when a part of the background work has died, and when the agents cannot be served."""
        return await super().on_tick(counter) or self._application.pulse.has_died or self._has_failed()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port."""
        try:
            await super().startup(sockets)
        except SystemExit:
            # uvicorn has logged the reason, and would exit with its own code.
            if self.lifespan.should_exit:
                raise _not_started(self._app) from None
            where = f"{self.config.host} port {self.config.port}"
            raise InvalidSetting(f"could not listen on {where}; is another server there?") from None
        if self.started:
            self._becoming_ready = self._tasks.start(self._become_ready(), "start")
            self._becoming_ready.add_done_callback(lambda _: self._wakeup.set())

    async def _become_ready(self) -> None:
        """Wait for the routes and the agents; then print the first token, the address, and the hints of the demo."""
        # A request to reload, while the agents are being loaded, must not end the process.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        settings = self._application.settings
        with loading_routes(beside_agents=not settings.agent_processes):
            await self._app.load()
        await self._application.agents.wait_until_loaded()
        if not settings.dev:
            await asyncio.to_thread(make_first_token, settings.database_url, settings.first_token_file)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._application.reload_agents)
        freeze_loaded()
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        text = f"Unpause is ready on {address}\n{self._hints.format(address=address)}"
        announce_ready(self._application, text, address=address)

    def _has_failed(self) -> bool:
        task = self._becoming_ready
        return task is not None and task.done() and not task.cancelled() and task.exception() is not None


def _not_started(app: StartingApp) -> InvalidSetting:
    reason = "; the log above says why" if app.failure is None else f": {reason_of(app.failure)}"
    return InvalidSetting(f"the server could not start{reason}")


def run_server(settings: Settings, launched: Sequence[LaunchedProcess], hints: str) -> None:
    """Serve until stopped the agents of the processes that were launched; raise a ``Startup`` error."""
    check_settings(settings)
    configure_logging(build_redaction(settings), readable=settings.readable_logs, level=settings.log_level)
    log_uncaught()
    if settings.traces:
        start_tracing()
    with printing_to_log(settings):
        _run(settings, launched, hints)


def _run(settings: Settings, launched: Sequence[LaunchedProcess], hints: str) -> None:
    agents = build_agents(settings, launched, demo=bool(hints))
    file = database_file(settings.database_url)
    if file is not None and not file.exists():
        # Before anything is created on disk: a wrong name leaves nothing behind.
        agents.wait_until_loaded()
    lock = own_database(settings.database_url)
    try:
        if lacks_changes(settings.database_url):
            _log.warning(
                "database file may lack its newest changes: it is a copy of one in use, without its -wal file",
                file=str(file),
                hint="use `unpause db backup`, which copies all of it",
            )
        prepare_database(settings.database_url)
        _serve(settings, agents, hints)
    finally:
        if lock is not None:
            lock.release()


def _announce_reload(application: Application) -> None:
    hint = "leave --reload out where people rely on this server"
    if application.database.is_shared:
        hint += "; other nodes on this database keep the code that they have loaded"
    _log.warning("agents are reloaded when their files change, for development only", hint=hint)


def _serve(settings: Settings, agents: Agents, hints: str) -> None:
    application = build_application(settings, agents)
    app = StartingApp(application)
    config = uvicorn.Config(
        TimedApp(app, settings.request_seconds),
        host=settings.host,
        port=settings.port,
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        http=TimedConnection,
        h11_max_incomplete_event_size=_LARGEST_HEAD_BYTES,
        # Only trusted proxies may name the client.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        # Streams end by themselves after the grace period: this is for clients that do not read.
        timeout_graceful_shutdown=1 + ceil(settings.shutdown_grace_seconds),
    )
    announce_start(application)
    if settings.reload:
        _announce_reload(application)
    server = _Server(config, application, app, hints)
    # A shell starts background jobs with SIGINT ignored, but the server stops on it all the same. Then the signal must
    # end the process, too, without waiting for the thread of a stuck tool.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        run_main(server.serve(), config.get_loop_factory())
    except KeyboardInterrupt:
        # Everything is closed: end by the signal, as with SIGTERM, without a traceback.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
    if application.pulse.has_died:
        # The log names the part and the reason; the runs are released.
        sys.exit(1)
    if not server.started:
        raise _not_started(app)
