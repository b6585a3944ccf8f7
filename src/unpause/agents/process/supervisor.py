"""Keeps a number of agent processes running: starts them, shares segments among them, replaces those that end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog

from unpause.agents.driver import AgentProcessDied
from unpause.agents.process.proxy import ProcessDriver
from unpause.clock import delays
from unpause.errors import AgentUnavailable, InvalidSetting
from unpause.tasks import VitalTask, background_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Mapping
    from typing import Any

    from unpause.agents.driver import ArgumentCheck, Journal, Segment, SegmentEnd
    from unpause.agents.process.client import AgentProcessClient
    from unpause.agents.process.messages import AgentDescription, Ready

_log = structlog.get_logger(__name__)

_WATCH_SECONDS: Final = 1.0
# A process says every second that it lives; its loop is blocked where it has not for so long.
_SILENT_SECONDS: Final = 3.5
# One that lived longer than this did not die at its start.
_SETTLED_SECONDS: Final = 30.0
_CHECK_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRules:
    """How many processes, and when one is replaced: after so many segments, or holding so many bytes of memory.

    ``unresponsive_seconds`` is how long a blocked event loop is suffered; None for ever. ``cancel_seconds`` is how long
    a cancelled segment may go on, ``drain_seconds`` how long the others take at the most to move elsewhere, which they
    do before their next model or tool call.
    """

    processes: int
    cancel_seconds: float
    drain_seconds: float
    max_segments: int | None = None
    max_bytes: int | None = None
    unresponsive_seconds: float | None = None


class AgentProcesses:
    """The agents of this server, in processes of their own. Implements ``AgentHost``."""

    def __init__(self, launch: Callable[[], AgentProcessClient], rules: ProcessRules) -> None:
        """``launch`` starts a process."""
        self._launch = launch
        self._rules = rules
        self._clients: list[AgentProcessClient] = []
        # Those that load their agents.
        self._starting: list[AgentProcessClient] = []
        self._has_changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._is_stopping = False
        self._restarts = delays()
        self._blocked: set[int] = set()
        self._replaced: set[int] = set()
        self._drivers: dict[str, ProcessDriver] = {}

    def start(self) -> None:
        """Start the processes; they load their agents while this one goes on."""
        self._starting = [self._launch() for _ in range(self._rules.processes)]

    def wait_until_ready(self) -> tuple[list[ProcessDriver], ProcessDriver | None]:
        """Return drivers for the agents, and for setup commands, once every process has loaded them.

        Raises InvalidSetting, and ends all processes, for agents that cannot be served.
        """
        try:
            ready, *_ = [client.receive_ready() for client in self._starting]
        except BaseException:
            self.kill()
            raise
        setup = None if ready.setup_commands is None else self._driver_of(ready.setup_commands)
        return [self._driver_of(description) for description in ready.agents], setup

    def kill(self) -> None:
        """End all processes at once."""
        for client in (*self._starting, *self._clients):
            client.kill()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run segments during the block; at its end the processes close what their agents have open."""
        self._loop = asyncio.get_running_loop()
        async with background_tasks() as tasks:
            self._tasks = tasks
            for client in tuple(self._starting):
                await self._add(client)
            watching = VitalTask(tasks, self._watch(), "watch over agent processes")
            try:
                yield
            finally:
                self._is_stopping = True
                watching.stop()
                self._has_changed.set()
                for client in self._starting:
                    client.kill()
                await asyncio.gather(*(client.shut_down() for client in self._clients))
                self._loop = self._tasks = None

    # -- requests of the server

    async def run_segment(self, agent_id: str, segment: Segment, journal: Journal) -> SegmentEnd:
        """Run a segment in the process with the fewest; wait for one where there is none just now."""
        client = await self._choose()
        try:
            return await client.link.run_segment(agent_id, segment, journal)
        finally:
            self._end_if_drained(client)

    def check_arguments(
        self, agent_id: str, tool_name: str, arguments: Mapping[str, Any], chosen: Collection[str]
    ) -> ArgumentCheck | None:
        """Have a tool check arguments; called in a thread. Raises AgentUnavailable where no process answers."""
        loop = self._loop
        if loop is None:
            raise AgentUnavailable(agent_id)
        check = asyncio.run_coroutine_threadsafe(self._check(agent_id, tool_name, arguments, sorted(chosen)), loop)
        try:
            return check.result(_CHECK_SECONDS)
        except (TimeoutError, AgentProcessDied):
            check.cancel()
            raise AgentUnavailable(agent_id) from None

    async def _check(
        self, agent_id: str, tool_name: str, arguments: Mapping[str, Any], chosen: list[str]
    ) -> ArgumentCheck | None:
        client = await self._choose()
        return await client.link.check_arguments(agent_id, tool_name, arguments, chosen)

    def request_reload(self) -> None:
        """Begin to load the agents anew, in new processes."""
        if self._tasks is not None:
            self._tasks.create_task(self.reload(), name="reload of agents")

    async def reload(self) -> bool:
        """Start new processes, which load the agents anew; the old ones take no more segments, and end with theirs.

        Returns False, having changed nothing, where the new ones cannot be started.
        """
        new: list[AgentProcessClient] = []
        try:
            for _ in range(self._rules.processes):
                new.append(self._launch())
                self._starting.append(new[-1])
            ready = [await asyncio.to_thread(client.receive_ready) for client in new]
        except InvalidSetting as error:
            for client in new:
                client.kill()
                self._starting.remove(client)
            _log.error("agents not reloaded", reason=error.message)
            return False
        old = list(self._clients)
        for client in new:
            await self._add(client)
        self._update(ready[0])
        for client in old:
            self._drain(client)
        _log.info("agents reloaded", processes=len(new))
        return True

    # -- starting and replacing processes

    def _driver_of(self, description: AgentDescription) -> ProcessDriver:
        driver = self._drivers[description.agent_id] = ProcessDriver(description, self)
        return driver

    def _update(self, ready: Ready) -> None:
        for description in (*ready.agents, *([ready.setup_commands] if ready.setup_commands else [])):
            driver = self._drivers.get(description.agent_id)
            if driver is None:
                _log.warning("agent not served: a new agent needs a restart", agent=description.agent_id)
            else:
                driver.update(description)

    async def _choose(self) -> AgentProcessClient:
        while True:
            able = [client for client in self._clients if not client.is_draining and not client.has_died]
            if able:
                return min(able, key=lambda client: client.link.busy)
            if self._is_stopping:
                raise AgentProcessDied("the agent processes are being stopped")
            self._has_changed.clear()
            await self._has_changed.wait()

    async def _add(self, client: AgentProcessClient) -> None:
        self._starting.remove(client)
        if self._tasks is None or self._is_stopping:
            client.kill()
            return
        await client.attach()
        self._clients.append(client)
        self._has_changed.set()
        self._tasks.create_task(self._listen(client), name=f"agent process {client.pid}")

    async def _listen(self, client: AgentProcessClient) -> None:
        since, running, is_replaced = monotonic(), 0, False
        try:
            await client.listen()
        finally:
            running, is_replaced = client.link.busy, client.pid in self._replaced
            self._clients.remove(client)
            self._blocked.discard(client.pid)
            self._replaced.discard(client.pid)
            self._has_changed.set()
        if self._is_stopping or client.is_draining:
            return
        _log.error("agent process died", pid=client.pid, ended=client.describe_end(), segments=running)
        if monotonic() - since > _SETTLED_SECONDS:
            self._restarts = delays()
        if not is_replaced:
            await self._replace(wait=monotonic() - since < _SETTLED_SECONDS and running == 0)

    async def _replace(self, *, wait: bool) -> None:
        """Start a process in the place of one that ended; again and again, after growing delays, where that fails."""
        while not self._is_stopping:
            if wait:
                await asyncio.sleep(next(self._restarts))
            client = None
            try:
                client = self._launch()
                self._starting.append(client)
                self._update(await asyncio.to_thread(client.receive_ready))
            except (InvalidSetting, OSError) as error:
                if client is not None:
                    self._starting.remove(client)
                if not self._is_stopping:
                    _log.error("agent process could not be started", reason=str(error))
                wait = True
                continue
            await self._add(client)
            _log.info("agent process started", pid=client.pid)
            return

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            for client in tuple(self._clients):
                self._look_at(client)

    def _look_at(self, client: AgentProcessClient) -> None:
        now, rules = monotonic(), self._rules
        silent = now - client.link.heard_at
        if silent < _SILENT_SECONDS:
            self._blocked.discard(client.pid)
        elif client.pid not in self._blocked:
            self._blocked.add(client.pid)
            client.request_stack()
            if self._tasks is not None:
                self._tasks.create_task(_log_stack(client, silent), name="stack of a blocked agent process")
        elif rules.unresponsive_seconds is not None and silent > rules.unresponsive_seconds:
            _log.error("agent process killed: its event loop is blocked", pid=client.pid, seconds=round(silent, 1))
            client.kill()
        if client.is_draining or client.has_died or client.pid in self._replaced:
            return
        if any(now - since > rules.cancel_seconds for since in client.link.cancelled.values()):
            self._recycle(client, "a cancelled segment does not end")
        elif rules.max_segments is not None and client.link.segments_run >= rules.max_segments:
            self._recycle(client, "it has run its segments")
        elif rules.max_bytes is not None and client.link.memory > rules.max_bytes:
            self._recycle(client, "it holds too much memory")

    def _recycle(self, client: AgentProcessClient, reason: str) -> None:
        _log.info("agent process replaced", pid=client.pid, reason=reason)
        if self._tasks is not None:
            self._replaced.add(client.pid)
            self._tasks.create_task(self._replace_and_drain(client), name=f"replacement of {client.pid}")

    async def _replace_and_drain(self, client: AgentProcessClient) -> None:
        await self._replace(wait=False)
        self._drain(client)

    def _drain(self, client: AgentProcessClient) -> None:
        client.is_draining = True
        client.link.request_release()
        self._end_if_drained(client)
        if self._loop is not None and not client.has_died:
            self._loop.call_later(self._rules.drain_seconds, client.kill)

    def _end_if_drained(self, client: AgentProcessClient) -> None:
        if not client.is_draining or client.link.running or client.has_died or self._tasks is None:
            return
        if client.link.cancelled:
            client.kill()
        else:
            self._tasks.create_task(client.shut_down(), name=f"end of agent process {client.pid}")


async def _log_stack(client: AgentProcessClient, seconds: float) -> None:
    await asyncio.sleep(0.2)
    _log.warning("agent process blocked", pid=client.pid, seconds=round(seconds, 1), stack=client.read_stack())
