"""One agent process as the server sees it: started, spoken to, watched, and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog

from unpause.agents.process.frames import (
    LARGEST_FRAME_OF_AGENTS,
    FrameSocket,
    ProtocolViolation,
    receive_blocking,
    send_blocking,
)
from unpause.agents.process.link import AgentLink
from unpause.agents.process.messages import Ready, Refused, decode_from_agents
from unpause.errors import InvalidSetting
from unpause.tasks import TaskScope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_log = structlog.get_logger(__name__)

# A process that shuts down first closes what its agents have open, for at most this long.
_SHUTDOWN_SECONDS: Final = 12.0
# After its end, for what it sent before that.
_LAST_MESSAGES_SECONDS: Final = 0.2
_STACK_BYTES: Final = 16_384


class AgentProcessClient:
    """A process that was started: first ``receive_ready``, then ``attach``, then ``listen`` and what ``link`` does."""

    link: AgentLink

    def __init__(self, command: Sequence[str], config: bytes, environment: Mapping[str, str], folder: Path) -> None:
        """Start the process with one end of a pair of sockets, and send it ``config``. Raises OSError."""
        ours, theirs = socket.socketpair()
        self._stacks, write_stacks = os.pipe()
        os.set_blocking(self._stacks, False)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this server's own interpreter
                [*command, str(theirs.fileno()), str(write_stacks), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                # What tools print is no part of what the server prints.
                stdout=_descriptor_of(sys.stderr),
                env=dict(environment),
                cwd=folder,
                pass_fds=(theirs.fileno(), write_stacks),
                # A Ctrl-C is for the server, and what tools fork ends with the process: the group is its own.
                start_new_session=True,
            )
        finally:
            theirs.close()
            os.close(write_stacks)
        self._socket = ours
        self._is_attached = False
        with suppress(ConnectionError):
            # One that ended at once says so where it is waited for.
            send_blocking(ours, config)
        # Whether it takes no more segments, and ends with its last one.
        self.is_draining = False
        self.has_died = False

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def receive_ready(self) -> Ready:
        """Wait until the agents are loaded. To be called in a thread, or before there is a loop.

        Raises InvalidSetting for agents that cannot be served, or a process that ended before it was ready.
        """
        try:
            data = receive_blocking(self._socket, LARGEST_FRAME_OF_AGENTS)
            message = None if data is None else decode_from_agents(data)
        except (ProtocolViolation, OSError) as error:
            message = Refused(f"agents: their process could not be started: {error}")
        if isinstance(message, Ready):
            return message
        self.kill()
        if isinstance(message, Refused):
            raise InvalidSetting(message.message)
        raise InvalidSetting(f"agents: their process ended while it loaded them ({self.describe_end()})")

    async def attach(self) -> None:
        """Have the event loop read the process's messages from here on: ``listen`` does."""
        frames = await FrameSocket.attach(self._socket, LARGEST_FRAME_OF_AGENTS)
        self._is_attached = True
        self.link = AgentLink(frames, f"agent process {self.pid}")

    async def listen(self) -> None:
        """Do what the process says until it is gone; then end what still ran there with AgentProcessDied."""
        try:
            async with TaskScope() as tasks:
                listening = tasks.start(self.link.listen(), f"messages of agent process {self.pid}")
                exited = tasks.start(self._wait_for_exit(), f"exit of agent process {self.pid}")
                await asyncio.wait((listening, exited), return_when=asyncio.FIRST_COMPLETED)
                # What it forked may hold its end of the socket open. What it sent before its end is read all the same.
                await asyncio.wait((listening,), timeout=_LAST_MESSAGES_SECONDS)
                if listening.done():
                    listening.result()
        except ProtocolViolation as error:
            _log.error("agent process broke the protocol", pid=self.pid, reason=str(error))
        finally:
            self.kill()

    async def _wait_for_exit(self) -> None:
        """Return once the process is gone, by a descriptor that is ready then."""
        loop, is_gone = asyncio.get_running_loop(), asyncio.Event()
        try:
            descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            # Not Linux, or gone already: the socket says so.
            await loop.create_future()
            return
        try:
            loop.add_reader(descriptor, is_gone.set)
            await is_gone.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    async def shut_down(self) -> None:
        """Have it close what its agents have open, and end; kill it where that takes too long."""
        if not self.has_died:
            self.link.request_shutdown()
            try:
                await asyncio.to_thread(self._process.wait, _SHUTDOWN_SECONDS)
            except subprocess.TimeoutExpired:
                _log.warning("agent process killed: it did not end in time", pid=self.pid)
        self.kill()

    def kill(self) -> None:
        """End the process, with all that it forked, and what ran there. Safe to call twice."""
        if self.has_died:
            return
        self.has_died = True
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._stacks)
        if self._is_attached:
            self.link.end(self.describe_end())
        else:
            self._socket.close()

    def request_stack(self) -> None:
        """Have the process write the stacks of its threads, whatever they do."""
        if not self.has_died:
            self._process.send_signal(signal.SIGUSR1)

    def read_stack(self) -> str:
        """Return what the process wrote of its stacks."""
        try:
            return "" if self.has_died else os.read(self._stacks, _STACK_BYTES).decode(errors="replace")
        except BlockingIOError:
            return ""

    def describe_end(self) -> str:
        """Return how the process ended, in words."""
        code = self._process.poll()
        if code is None:
            return "still running"
        if code >= 0:
            return f"exit code {code}"
        try:
            return f"signal {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"


def _descriptor_of(stream: object) -> int:
    try:
        return int(stream.fileno())  # type: ignore[attr-defined]
    except (AttributeError, OSError, ValueError):
        return subprocess.DEVNULL
