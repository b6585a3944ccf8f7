"""One agent process as the server sees it: started, spoken to, watched, and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Final

import structlog

from unpause.agents.process.frames import SERVER_FRAMES, FrameSocket, ProtocolViolation, receive_blocking
from unpause.agents.process.link import AgentLink
from unpause.agents.process.messages import Ready, Refused, decode_from_agents
from unpause.agents.process.output import OutputReader
from unpause.errors import InvalidSetting
from unpause.tasks import TaskScope

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unpause.agents.process.launch import LaunchedProcess

_log = structlog.get_logger(__name__)

# A process that shuts down first closes what its agents have open, for at most this long.
_SHUTDOWN_SECONDS: Final = 12.0
# After its end, for what it sent before that.
_LAST_MESSAGES_SECONDS: Final = 0.2
_STACK_BYTES: Final = 16_384
_BLOCKED_HINT: Final = "all runs there wait: a tool that is `async` has to await; others run in threads"
# What a process takes to write its stacks.
_STACK_SECONDS: Final = 0.2


class AgentProcessClient:
    """A process that was started: first ``receive_ready``, then ``attach``, then ``listen`` and what ``link`` does."""

    link: AgentLink

    def __init__(self, launched: LaunchedProcess) -> None:
        self._launched = launched
        self._process = launched.process
        # Whether the event loop has the socket, and then the link, too.
        self._belongs_to_loop = self._is_attached = False
        self._ready: Ready | None = None
        self._served: frozenset[str] = frozenset()
        # Those of the modules that it loaded, also where it refused the agents.
        self.source_files: tuple[str, ...] = ()
        # Whether it takes no more segments, and ends with its last one.
        self.is_draining = False
        output = launched.take_output()
        if output is not None:
            OutputReader(output, self.pid).start()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def has_died(self) -> bool:
        """Whether it was ended, or has ended by itself and that is known."""
        return self._launched.has_died

    def serves(self, agent_id: str) -> bool:
        """Whether it has loaded this agent."""
        return agent_id in self._served

    async def wait_until_warm(self) -> None:
        """Wait until it has loaded libraries, or has ended."""
        await asyncio.to_thread(self._launched.wait_until_warm)

    def configure(self) -> None:
        """Have it load the agents."""
        if not self.has_died:
            self._launched.configure()

    def receive_ready(self) -> Ready:
        """Wait until the agents are loaded. To be called in a thread, or before there is a loop.

        Raises InvalidSetting for agents that cannot be served, or a process that ended before it was ready.
        """
        if self._ready is not None:
            return self._ready
        self._launched.wait_until_warm()
        try:
            data = receive_blocking(self._launched.socket, self._launched.limit)
            message = None if data is None else decode_from_agents(data)
        except (ProtocolViolation, OSError) as error:
            message = Refused(f"agents: their process could not be started: {error}")
        if message is not None and isinstance(message, Ready | Refused):
            self.source_files = message.files
        if isinstance(message, Ready):
            self._ready = message
            described = (*message.agents, *([message.setup_commands] if message.setup_commands else []))
            self._served = frozenset(agent.agent_id for agent in described)
            return message
        self.kill()
        if isinstance(message, Refused):
            raise InvalidSetting(message.message)
        raise InvalidSetting(f"agents: their process ended while it loaded them ({self.describe_end()})")

    async def attach(self) -> None:
        """Have the event loop read the process's messages from here on: ``listen`` does."""
        self._belongs_to_loop = True
        frames = await FrameSocket.attach(self._launched.socket, self._launched.limit, SERVER_FRAMES)
        self._is_attached = True
        self.link = AgentLink(frames, f"agent process {self.pid}")
        if self.has_died:
            # Since this began.
            self.link.end(self.describe_end())

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
        self._launched.kill()
        if self._is_attached:
            self.link.end(self.describe_end())
        elif not self._belongs_to_loop:
            self._launched.socket.close()

    async def log_stack(self, silent: float) -> None:
        """Log the stacks of the process's threads, whatever they do: its loop has been silent for so many seconds."""
        # What came too late for the line before.
        self._read_stacks()
        if not self.has_died:
            self._process.send_signal(signal.SIGUSR1)
        await asyncio.sleep(_STACK_SECONDS)
        figures = {"pid": self.pid, "seconds": round(silent, 1), "hint": _BLOCKED_HINT}
        _log.warning("agent process blocked", **figures, stack=self._read_stacks())

    def _read_stacks(self) -> str:
        """Return the end of what the process has written: the thread of its event loop comes last."""
        return "" if self.has_died else self._launched.read_stacks()[-_STACK_BYTES:].decode(errors="replace")

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


def files_of(clients: Iterable[AgentProcessClient]) -> frozenset[str]:
    """Return the files that these processes have loaded their agents from."""
    return frozenset(file for client in clients for file in client.source_files)
