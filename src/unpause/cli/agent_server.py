"""The server of an agent process: from the socket that it was handed to the end of the process."""

from __future__ import annotations

import asyncio
import os
import socket
import sys

import structlog
import uvloop

from unpause.agents.config import AgentsConfig
from unpause.agents.hosting import host_agents, using_threads
from unpause.agents.process.child import AgentProcess, end_process
from unpause.agents.process.forks import cut_off_forks
from unpause.agents.process.frames import (
    SERVER_FRAMES,
    WARM,
    FrameLimit,
    FrameSocket,
    agent_frames,
    receive_blocking,
    send_blocking,
)
from unpause.agents.process.messages import Refused, encode, prepare_decoding
from unpause.agents.process.sources import distrust_young_bytecode, loaded_files
from unpause.agents.process.threads import SegmentThreads
from unpause.agents.redaction import Redaction
from unpause.agents.served import Agents
from unpause.cli.logs import configure_logging, log_uncaught
from unpause.cli.process import freeze_loaded, run_main
from unpause.clock import SystemClock
from unpause.errors import InvalidSetting
from unpause.telemetry.exporting import start_tracing, stop_tracing

_log = structlog.get_logger(__name__)


def run_agents(descriptor: int) -> None:
    """Serve the agents that the server names over the socket that it handed down, until it ends."""
    link = socket.socket(fileno=descriptor)
    # uvloop closes the socket with the loop, and the server kills a process whose socket is closed: this one is open
    # as long as the process lives, which sends its last spans, or logs why it failed, after its loop.
    kept = os.dup(descriptor)
    send_blocking(link, WARM)
    data = receive_blocking(link, SERVER_FRAMES)
    if data is None:
        return
    config = AgentsConfig.model_validate_json(data)
    prepare_decoding()
    # A line that a tool prints is not kept back, in a pipe neither.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # it is the interpreter's own
    redaction = Redaction(os.environ)
    configure_logging(redaction, readable=config.readable_logs, level=config.log_level)
    log_uncaught()
    try:
        if config.traces:
            start_tracing()
        limit = agent_frames(config.max_body_bytes, config.max_result_bytes)
        if config.reports_files:
            distrust_young_bytecode()
        agents = host_agents(config, redaction, SystemClock())
        files = loaded_files() if config.reports_files else ()
        run_main(_serve(link, kept, agents, limit, files), uvloop.new_event_loop)
        stop_tracing()
    except InvalidSetting as error:
        files = loaded_files(error) if config.reports_files else ()
        send_blocking(link, encode(Refused(config.explain(error.message), files)))
    except BaseException:  # noqa: BLE001 - the process ends at once: else it waited for its tools' threads, with no loop
        _log.exception("agent process failed")
        end_process(1)
    end_process(0)


async def _serve(link: socket.socket, kept: int, agents: Agents, limit: FrameLimit, files: tuple[str, ...]) -> None:
    freeze_loaded()
    cut_off_forks(asyncio.get_running_loop(), link.fileno(), kept)
    threads = SegmentThreads()
    with using_threads(threads):
        async with agents.running():
            frames = await FrameSocket.attach(link, SERVER_FRAMES, limit)
            await AgentProcess(frames, agents.drivers, agents.setup_commands, threads, files).serve()
