"""Starts agent processes. This loads little, so that agents load while the server loads the rest of itself."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from time import time_ns
from typing import TYPE_CHECKING, Final

from unpause.agents.config import agents_config
from unpause.agents.process.environment import allowed_environment
from unpause.agents.process.frames import ProtocolViolation, agent_frames, receive_blocking, send_blocking

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from unpause.agents.process.frames import FrameLimit
    from unpause.settings import Settings

_MAX_SPARES: Final = 2
# What a pipe holds by default, and the most that the stacks of all threads take: a hundred frames of each.
_PIPE_BYTES: Final = 65_536
_LONGEST_STACKS: Final = 1_048_576


class LaunchedProcess:
    """An agent process that was started: its socket, and the pipe that it writes its stacks to.

    It loads libraries, and then its agents once it has its configuration.
    """

    def __init__(self, launcher: AgentLauncher) -> None:
        """Start it with one end of a pair of sockets. Raises OSError."""
        self.limit = launcher.limit
        self.socket, theirs = socket.socketpair()
        self._stacks, write_stacks = _open_stacks()
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
        self._config = launcher.config
        self._is_warm = False
        self._warming = Lock()
        # In nanoseconds.
        self.configured_at = 0

    def wait_until_warm(self) -> None:
        """Wait until it has loaded libraries, or has ended. To be called in a thread, or before there is a loop."""
        with self._warming:
            if not self._is_warm:
                with suppress(ProtocolViolation, OSError):
                    receive_blocking(self.socket, self.limit)
                self._is_warm = True

    def configure(self) -> None:
        """Have it load the agents."""
        self.configured_at = time_ns()
        with suppress(ConnectionError):
            # One that ended at once says so where it is waited for.
            send_blocking(self.socket, self._config)

    def take_output(self) -> int | None:
        """Return the pipe that the process prints to, once; None where that is not collected. The caller closes it."""
        output, self._output = self._output, None
        return output

    def read_stacks(self) -> bytes:
        """Return what the process has written of its stacks since this was last called."""
        parts: list[bytes] = []
        with suppress(BlockingIOError):
            while len(parts) * _PIPE_BYTES < _LONGEST_STACKS and (part := os.read(self._stacks, _PIPE_BYTES)):
                parts.append(part)
        return b"".join(parts)

    def kill(self) -> None:
        """End the process, with all that it forked, and wait for that. Safe to call twice."""
        if self.has_died:
            return
        self.has_died = True
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        os.close(self._stacks)
        if self._output is not None:
            os.close(self._output)


@dataclass(slots=True)
class AgentLauncher:
    """What every agent process of a server is started with; ``limit`` is that of the frames that it may send.

    A spare process has loaded all but the agents: with one they are loaded in a fraction of the time. There are two,
    for a save that comes before another spare is ready.
    """

    config: bytes
    environment: Mapping[str, str]
    folder: Path
    limit: FrameLimit
    collects_output: bool
    _spares: list[LaunchedProcess] = field(default_factory=list)

    def launch(self) -> LaunchedProcess:
        """Start a process, or take the oldest spare one; it loads the agents. Raises OSError."""
        launched = self.take()
        launched.configure()
        return launched

    def take(self) -> LaunchedProcess:
        """Start a process, or take the oldest spare one; it loads the agents once it is configured. Raises OSError."""
        return self._take_spare() or LaunchedProcess(self)

    def _take_spare(self) -> LaunchedProcess | None:
        while self._spares:
            spare = self._spares.pop(0)
            if spare.process.poll() is None:
                return spare
            _end(spare)
        return None

    def prepare_spare(self) -> LaunchedProcess | None:
        """Start another spare process, and return it; None where there are enough, or none can be started."""
        if len(self._spares) < _MAX_SPARES:
            with suppress(OSError):
                self._spares.append(LaunchedProcess(self))
                return self._spares[-1]
        return None

    def end_spares(self) -> None:
        """End the spare processes."""
        while self._spares:
            _end(self._spares.pop())


def _end(spare: LaunchedProcess) -> None:
    spare.kill()
    spare.socket.close()


def agent_launcher(settings: Settings, *, demo: bool) -> AgentLauncher:
    """Return what starts agent processes as the settings say."""
    environment, withheld = agent_environment(settings)
    config = agents_config(settings, demo=demo).model_copy(update={"withheld": withheld})
    folder = settings.agent_folder or Path.cwd()
    limit = agent_frames(config.max_body_bytes, config.max_result_bytes)
    collects_output = not settings.readable_logs
    return AgentLauncher(config.model_dump_json().encode(), environment, folder, limit, collects_output)


def agent_environment(settings: Settings) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the variables that agent processes get, and the names of those that are withheld from them."""
    environment = allowed_environment(os.environ, settings.agent_env)
    withheld = tuple(name for name in os.environ if name not in environment and not name.startswith("UNPAUSE_"))
    return environment, withheld


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


def _open_stacks() -> tuple[int, int]:
    """Return the ends of a pipe that neither side waits at: one that is full must not stop who writes its stacks."""
    ends = os.pipe()
    for end in ends:
        os.set_blocking(end, False)
    with suppress(AttributeError, OSError):
        # Linux only, and only as far as the system's limits let it.
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, _LONGEST_STACKS)
    return ends


def _descriptor_of(stream: object) -> int:
    try:
        return int(stream.fileno())  # type: ignore[attr-defined]  # a stream of the interpreter
    except (AttributeError, OSError, ValueError):
        return subprocess.DEVNULL
