"""Starts agent processes. This loads little, so that agents load while the server loads the rest of itself."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unpause.agents.config import agents_config
from unpause.agents.process.environment import allowed_environment
from unpause.agents.process.frames import agent_frames, send_blocking

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from unpause.agents.process.frames import FrameLimit
    from unpause.settings import Settings


class LaunchedProcess:
    """An agent process that was started: its socket, and the pipe that it writes its stacks to."""

    def __init__(self, launcher: AgentLauncher) -> None:
        """Start it with one end of a pair of sockets, and send it its configuration. Raises OSError."""
        self.limit = launcher.limit
        self.socket, theirs = socket.socketpair()
        self.stacks, write_stacks = os.pipe()
        os.set_blocking(self.stacks, False)
        arguments = (theirs.fileno(), write_stacks, os.getpid())
        # What tools print is no part of what the server prints, and in a log of JSON lines it becomes one of them.
        self._output: int | None = None
        printed = _descriptor_of(sys.stderr)
        if launcher.collects_output:
            self._output, printed = os.pipe()
        try:
            self.process = subprocess.Popen(  # noqa: S603 - this server's own interpreter
                [sys.executable, "-m", "unpause.cli.agent_process", *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed if launcher.collects_output else None,
                env=dict(launcher.environment),
                cwd=launcher.folder,
                pass_fds=(theirs.fileno(), write_stacks),
                # A Ctrl-C is for the server, and what tools fork ends with the process: the group is its own.
                start_new_session=True,
            )
        finally:
            theirs.close()
            os.close(write_stacks)
            if self._output is not None:
                os.close(printed)
        self.has_died = False
        with suppress(ConnectionError):
            # One that ended at once says so where it is waited for.
            send_blocking(self.socket, launcher.config)

    def read_output(self) -> None:
        """Begin to log what the process prints, where that is collected; the log is configured by now."""
        if self._output is not None:
            # Here: structlog takes a tenth of a second, in which the agents load already.
            from unpause.agents.process.output import OutputReader  # noqa: PLC0415

            OutputReader(self._output, self.process.pid).start()
            self._output = None

    def kill(self) -> None:
        """End the process, with all that it forked, and wait for that. Safe to call twice."""
        if self.has_died:
            return
        self.has_died = True
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self.stacks)
        if self._output is not None:
            os.close(self._output)


@dataclass(frozen=True, slots=True)
class AgentLauncher:
    """What every agent process of a server is started with; ``limit`` is that of the frames that it may send."""

    config: bytes
    environment: Mapping[str, str]
    folder: Path
    limit: FrameLimit
    collects_output: bool

    def launch(self) -> LaunchedProcess:
        """Start a process; it loads the agents. Raises OSError."""
        return LaunchedProcess(self)


def agent_launcher(settings: Settings, *, demo: bool) -> AgentLauncher:
    """Return what starts agent processes as the settings say."""
    environment = allowed_environment(os.environ, settings.agent_env)
    withheld = tuple(name for name in os.environ if name not in environment and not name.startswith("UNPAUSE_"))
    config = agents_config(settings, demo=demo).model_copy(update={"withheld": withheld})
    folder = settings.agent_folder or Path.cwd()
    limit = agent_frames(config.max_body_bytes, config.max_result_bytes)
    collects_output = not settings.readable_logs
    return AgentLauncher(config.model_dump_json().encode(), environment, folder, limit, collects_output)


@contextmanager
def launched_agents(settings: Settings, *, demo: bool) -> Iterator[list[LaunchedProcess]]:
    """Start the agent processes of the settings, if any; those that nobody has ended by then end with the block."""
    launched: list[LaunchedProcess] = []
    try:
        if settings.agent_processes > 0:
            launcher = agent_launcher(settings, demo=demo)
            launched.extend(launcher.launch() for _ in range(settings.agent_processes))
        yield launched
    finally:
        for process in launched:
            process.kill()


def _descriptor_of(stream: object) -> int:
    try:
        return int(stream.fileno())  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return subprocess.DEVNULL
