"""``unpause serve`` and ``unpause demo``: check the settings, then serve until stopped."""

from __future__ import annotations

import asyncio
import signal
import sys
from datetime import UTC, datetime
from math import ceil
from typing import TYPE_CHECKING

import uvicorn

from unpause.agents.setup.shell import find_command_user
from unpause.api.app import create_app
from unpause.auth.tokens import create_first_token
from unpause.bootstrap import build_application
from unpause.cli.connections import TimedApp, TimedConnection
from unpause.cli.logs import configure_logging
from unpause.cli.options import settings_command
from unpause.cli.process import freeze_loaded, protect_memory, run_main
from unpause.errors import InvalidSetting
from unpause.factories import build_redaction, load_jwt_keys, load_vault, started_agents
from unpause.settings import GROUPS, DemoSettings, Settings
from unpause.store.engine.database import database_file
from unpause.store.engine.dialects import read_now
from unpause.store.engine.ownership import own_database, prepare_database
from unpause.store.engine.schema import plain_connection
from unpause.tasks import background_tasks

if TYPE_CHECKING:
    import socket

    from unpause.agents.config import Agents
    from unpause.bootstrap import Application

# How long an idle connection stays open between two requests.
_KEEP_ALIVE_SECONDS = 15
# More than ``HeadLimit`` accepts, so that a client usually gets its answer, and not a closed connection.
_LARGEST_HEAD_BYTES = 512 * 1024


_HINTS = """
Try it from another terminal (the demo agent works in the folder unpause-workspace, on a small local model):

  # 1. The agent stops before it deletes a file:
  curl -s {address}/agents/files/runs -F message='delete old.log' -F stream=false

  # 2. Put the run_id and the tool_call_id of that answer in here to let it go on:
  curl -s {address}/agents/files/runs/RUN_ID/continue -F stream=false \\
       -F 'tools=[{{"tool_call_id":"TOOL_CALL_ID","confirmed":true}}]'

  # The same agent through Codegen's API; ID is the "id" of the first answer:
  curl -s {address}/v1/organizations/1/agent/run -H 'content-type: application/json' \\
       -d '{{"prompt":"delete notes.txt"}}'
  curl -s {address}/v1/organizations/1/agent/run/ID
  curl -s {address}/v1/organizations/1/agent/run/resume -H 'content-type: application/json' \\
       -d '{{"agent_run_id":ID,"prompt":"no, keep it"}}'

Stop it with Ctrl-C; start it again and everything that was paused is still there.
"""


class _Server(uvicorn.Server):
    """Prints its address when it listens; ends streams when it stops."""

    def __init__(self, config: uvicorn.Config, application: Application, hints: str = "") -> None:
        super().__init__(config)
        self._application = application
        self._hints = hints

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more requests and claim no more runs, and wait for open responses."""
        async with background_tasks() as tasks:
            draining = tasks.create_task(self._application.drain(), name="drain")
            await super().shutdown(sockets)
            draining.cancel()

    async def on_tick(self, counter: int) -> bool:
        """Stop also when a part of the background work has died."""
        return await super().on_tick(counter) or self._application.pulse.has_died

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port; then print the address, and the hints of the demo."""
        try:
            await super().startup(sockets)
        except SystemExit:
            # uvicorn has logged the reason, and would exit with its own code.
            if self.lifespan.should_exit:
                raise InvalidSetting("the server could not start; the log above says why") from None
            where = f"{self.config.host} port {self.config.port}"
            raise InvalidSetting(f"could not listen on {where}; is another server there?") from None
        if not self.started:
            return
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._application.reload_agents)
        freeze_loaded()
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        sys.stdout.write(f"Unpause is ready on {address}\n")
        sys.stdout.write(self._hints.format(address=address))
        sys.stdout.flush()


def _start_server(settings: Settings) -> None:
    """Serve the agents of the settings until stopped."""
    if not settings.agents:
        raise InvalidSetting("no agents to serve: name a module or file with --agents, or try `unpause demo`")
    _check(settings, "--dev")
    _start(settings)


def _start_demo(settings: Settings) -> None:
    """Serve the demo agent until stopped."""
    settings = settings.model_copy(update={"dev": True})
    _check(settings, "the demo")
    _start(settings, _HINTS)


serve = settings_command(_start_server, [group for group in GROUPS if group is not DemoSettings])
demo = settings_command(_start_demo, GROUPS, without={"agents", "dev"})


def _check(settings: Settings, open_server: str) -> None:
    """Raise InvalidSetting for settings that cannot work, before anything changes."""
    if settings.dev and not settings.is_loopback:
        raise InvalidSetting(
            f"other machines can reach host {settings.host}, and with {open_server} nobody needs a token: "
            "listen on 127.0.0.1, or serve without it"
        )
    if not settings.worker and database_file(settings.database_url) is not None:
        raise InvalidSetting("--no-worker needs separate workers, and those need PostgreSQL: see --database-url")
    load_vault(settings)
    load_jwt_keys(settings)
    find_command_user(settings.command_user)


def _start(settings: Settings, hints: str = "") -> None:
    protect_memory()
    configure_logging(build_redaction(settings), readable=settings.dev)
    # Before anything is created on disk: a wrong name leaves nothing behind.
    with started_agents(settings, demo=bool(hints)) as agents:
        lock = own_database(settings.database_url)
        try:
            prepare_database(settings.database_url)
            if not settings.dev:
                _make_first_token(settings.database_url)
            _serve(settings, agents, hints)
        finally:
            if lock is not None:
                lock.release()


def _make_first_token(database_url: str) -> None:
    """Print an administrator's token if the database has none: without one nobody could use the server."""
    with plain_connection(database_url) as connection, connection.begin():
        text = create_first_token(connection, read_now(connection, datetime.now(UTC)))
    if text is not None:
        sys.stdout.write(f"An administrator's token, shown only now: {text}\n")
        sys.stdout.flush()


def _serve(settings: Settings, agents: Agents, hints: str) -> None:
    application = build_application(settings, agents)
    config = uvicorn.Config(
        TimedApp(create_app(application), settings.request_seconds),
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
    server = _Server(config, application, hints)
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
        raise InvalidSetting("the server could not start; the log above says why")
