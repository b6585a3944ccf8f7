"""Keeps a number of agent processes running: starts them, shares segments among them, replaces those that end."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Final

import structlog

from unpause.agents.driver import AgentProcessDied, Paused
from unpause.agents.process.client import AgentProcessClient, files_of
from unpause.agents.process.proxy import ProcessDriver
from unpause.clock import delays
from unpause.errors import AgentUnavailable, InvalidSetting
from unpause.lazy import LazyModule
from unpause.tasks import VitalTask, background_tasks
from unpause.telemetry.metrics import AGENT_PROCESS_DEATHS, AGENT_PROCESS_MEMORY, AGENT_PROCESSES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Mapping
    from typing import Any

    from unpause.agents.driver import ArgumentCheck, Journal, Segment, SegmentEnd
    from unpause.agents.process import reloading
    from unpause.agents.process.launch import AgentLauncher, LaunchedProcess
    from unpause.agents.process.messages import Ready
    from unpause.agents.process.rules import ProcessRules
    from unpause.agents.process.sources import SourceFiles
    from unpause.agents.registry import AgentRegistry
else:
    reloading = LazyModule("unpause.agents.process.reloading")

_log = structlog.get_logger(__name__)

_WATCH_SECONDS: Final = 1.0
# A process says every second that it lives; its loop is blocked where it has not for so long.
_SILENT_SECONDS: Final = 3.5
# One that lived longer than this did not die at its start.
_SETTLED_SECONDS: Final = 30.0
_CHECK_SECONDS: Final = 10.0
# After the start, the process that stands by leaves the processor to the first requests.
_STANDBY_SECONDS: Final = 3.0


class AgentProcesses:
    """The agents of this server, in processes of their own. Implements ``AgentHost``.

    With a single process another one stands by, with its agents loaded: it takes over at once when that one dies.
    """

    def __init__(
        self,
        launcher: AgentLauncher,
        rules: ProcessRules,
        launched: Iterable[LaunchedProcess] = (),
        sources: SourceFiles | None = None,
    ) -> None:
        """``launched`` are the processes that were started already; ``sources`` are watched where the rules say so."""
        self._launcher = launcher
        self._rules = rules
        self._sources = sources
        self._clients: list[AgentProcessClient] = []
        # Those that load their agents.
        self._starting = [AgentProcessClient(process) for process in launched]
        # Those of them that were started before the agents were loaded anew.
        self._outdated: set[AgentProcessClient] = set()
        self._registry: AgentRegistry | None = None
        self._has_changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._stopping = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._needs_spare = asyncio.Event()
        # The processes of the reload that is under way, until they are ready.
        self._loading: list[AgentProcessClient] = []
        self._is_abandoned = False
        self.reads_files = False
        self._generation = 1
        self.source_files: frozenset[str] = frozenset()
        self._restarts = delays()
        self._blocked: set[int] = set()
        self._replaced: set[int] = set()

    def publish_to(self, registry: AgentRegistry) -> None:
        """Put the agents into this registry once they are loaded, and whenever they are loaded anew."""
        self._registry = registry

    def wait_until_loaded(self) -> None:
        """Return once every process has loaded the agents; before there is an event loop. Raises InvalidSetting."""
        for client in self._starting:
            client.receive_ready()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run segments during the block; at its end the processes close what their agents have open."""
        self._loop = asyncio.get_running_loop()
        async with background_tasks() as tasks:
            self._tasks = tasks
            tasks.create_task(self._load(), name="load of agents")
            parts = [VitalTask(tasks, self._watch(), "watch over agent processes")]
            if self._sources is not None:
                # Most servers watch no files.
                watch = reloading.ReloadOnChange(self._sources, self).watch
                parts.append(VitalTask(tasks, watch(), "watch over files of agents"))
            try:
                yield
            finally:
                self._stopping.set()
                for part in parts:
                    part.stop()
                self._has_changed.set()
                self._needs_spare.set()
                for client in self._starting:
                    client.kill()
                self._launcher.end_spares()
                await asyncio.gather(*(client.shut_down() for client in self._clients))
                self._loop = self._tasks = None

    async def _load(self) -> None:
        """Take the first processes into service as soon as they have loaded the agents."""
        clients = tuple(self._starting)
        try:
            ready = [await asyncio.to_thread(client.receive_ready) for client in clients]
            if self._outdated.isdisjoint(clients):
                self.source_files = files_of(clients)
                self._serve(ready[0])
            for client in clients:
                await self._add(client)
        except InvalidSetting as error:
            if self._registry is not None and not self._stopping.is_set():
                self._registry.refuse(error)
            return
        if self._rules.reloads:
            await self._keep_spares()
        elif self._rules.processes == 1:
            await self._rest(_STANDBY_SECONDS)
            await self._replace(wait=False)

    # -- requests of the server

    async def run_segment(self, agent_id: str, segment: Segment, journal: Journal) -> SegmentEnd:
        """Run a segment in the process with the fewest; wait for one where there is none just now."""
        client = await self._choose(agent_id)
        if client is None:
            # The agents were loaded anew while the segment waited: whoever serves this one goes on with the run.
            journal.request_release()
            return Paused(requests=())
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
        client = await self._choose(agent_id)
        if client is None:
            raise AgentProcessDied("no process has this agent any more")
        return await client.link.check_arguments(agent_id, tool_name, arguments, chosen)

    def request_reload(self) -> None:
        """Begin to load the agents anew, in new processes."""
        if self._tasks is not None:
            self._tasks.create_task(self.reload(), name="reload of agents")

    async def reload(self, changed: Collection[str] = ()) -> bool:
        """Start new processes, which load the agents anew; the old ones take no more segments, and end with theirs.

        Returns False, having changed nothing, where that fails. ``changed`` are the files that the log shall name.
        """
        async with self._reloading:
            began, self._is_abandoned, self.reads_files = monotonic(), False, False
            try:
                new = await self._load_anew()
            except (InvalidSetting, OSError) as error:
                if not (self._is_abandoned or self._stopping.is_set()):
                    _log.error("agents not reloaded", reason=str(error), **_listed(changed))
                return False
            finally:
                self._needs_spare.set()
            self._outdated.update(client for client in self._starting if client not in new)
            for client in tuple(self._clients):
                self._drain(client)
            for client in new:
                await self._add(client)
            self._generation += 1
            figures = {"generation": self._generation, "seconds": round(monotonic() - began, 2), "processes": len(new)}
            _log.info("agents reloaded", **figures, **_listed(changed))
            return True

    async def _load_anew(self) -> list[AgentProcessClient]:
        """Return new processes whose agents are served from now on; raise InvalidSetting or OSError."""
        self._loading = new = []
        count = self._rules.processes if self._rules.reloads else max(self._rules.processes, len(self._clients))
        try:
            for _ in range(count):
                new.append(AgentProcessClient(self._launcher.take()))
                self._starting.append(new[-1])
            await asyncio.gather(*(client.wait_until_warm() for client in new))
            self.reads_files = True
            for client in new:
                client.configure()
            ready = [await asyncio.to_thread(client.receive_ready) for client in new]
            self._serve(ready[0])
        except (InvalidSetting, OSError):
            self.source_files |= files_of(new)
            for client in new:
                client.kill()
                self._starting.remove(client)
            self._has_changed.set()
            raise
        finally:
            self._loading = []
        self.source_files = files_of(new)
        return new

    def abandon_reload(self) -> None:
        """End the processes that are loading the agents anew, if any: the reload returns False, and logs nothing."""
        for client in self._loading:
            self._is_abandoned = True
            client.kill()

    async def _keep_spares(self) -> None:
        """Have processes stand by that have loaded all but the agents; one is started after the other, to be fast."""
        while not self._stopping.is_set():
            self._needs_spare.clear()
            if spare := self._launcher.prepare_spare():
                await asyncio.to_thread(spare.wait_until_warm)
            else:
                await self._needs_spare.wait()

    # -- starting and replacing processes

    def _serve(self, ready: Ready) -> None:
        """Serve the agents that a process has loaded; raise InvalidSetting for those that cannot be served."""
        if self._registry is not None and not self._stopping.is_set():
            setup = None if ready.setup_commands is None else ProcessDriver(ready.setup_commands, self)
            self._registry.serve([ProcessDriver(description, self) for description in ready.agents], setup)

    async def _choose(self, agent_id: str) -> AgentProcessClient | None:
        """Return the process with the fewest segments, once there is one; None where none will have this agent."""
        while True:
            if self._stopping.is_set():
                raise AgentProcessDied("the agent processes are being stopped")
            able = [client for client in self._clients if not client.is_draining and not client.has_died]
            fit = [client for client in able if client.serves(agent_id)]
            if fit:
                # Those that are left over stand by, and so does one whose loop is blocked while another is free.
                fit.sort(key=lambda client: client.pid in self._blocked)
                return min(fit[: self._rules.processes], key=lambda client: client.link.busy)
            if able and not self._starting:
                return None
            self._has_changed.clear()
            await self._has_changed.wait()

    async def _add(self, client: AgentProcessClient) -> None:
        """Take a process into service, or end it where it is of no use any more by then."""
        if not client.has_died:
            await client.attach()
        # Not before: a reload and a stop have to know of it until then.
        self._starting.remove(client)
        self._has_changed.set()
        if self._tasks is None or self._stopping.is_set() or client in self._outdated:
            self._outdated.discard(client)
            client.kill()
            return
        self._clients.append(client)
        AGENT_PROCESSES.inc()
        self._tasks.create_task(self._listen(client), name=f"agent process {client.pid}")

    async def _listen(self, client: AgentProcessClient) -> None:
        since, running, is_replaced = monotonic(), 0, False
        try:
            await client.listen()
        finally:
            running, is_replaced = client.link.busy, client.pid in self._replaced
            self._clients.remove(client)
            AGENT_PROCESSES.dec()
            self._blocked.discard(client.pid)
            self._replaced.discard(client.pid)
            self._has_changed.set()
        if self._stopping.is_set() or client.is_draining:
            return
        AGENT_PROCESS_DEATHS.inc()
        _log.error("agent process died", pid=client.pid, ended=client.describe_end(), segments=running)
        if monotonic() - since > _SETTLED_SECONDS:
            self._restarts = delays()
        if not is_replaced:
            await self._replace(wait=monotonic() - since < _SETTLED_SECONDS and running == 0)

    async def _replace(self, *, wait: bool) -> None:
        """Start a process in the place of one that ended; again and again, after growing delays, where that fails."""
        while not self._stopping.is_set():
            if wait:
                await self._rest(next(self._restarts))
            if self._stopping.is_set() or not self._is_short():
                return
            client = None
            try:
                client = AgentProcessClient(self._launcher.launch())
                self._starting.append(client)
                ready = await asyncio.to_thread(client.receive_ready)
                if client in self._outdated:
                    await self._add(client)
                    wait = False
                    continue
                self._serve(ready)
            except (InvalidSetting, OSError) as error:
                if client is not None:
                    client.kill()
                    self._starting.remove(client)
                    self._has_changed.set()
                if not self._stopping.is_set():
                    _log.error("agent process could not be started", reason=str(error))
                wait = True
                continue
            await self._add(client)
            _log.info("agent process started", pid=client.pid)
            return

    def _is_short(self) -> bool:
        """Whether there are too few processes, without those that are replaced; one stands by a single one."""
        able = [client for client in self._clients if not (client.is_draining or client.has_died)]
        return sum(client.pid not in self._replaced for client in able) < self._rules.needed

    async def _rest(self, seconds: float) -> None:
        """Wait so long, or until the processes are being stopped."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            for client in tuple(self._clients):
                self._look_at(client)
            AGENT_PROCESS_MEMORY.set(sum(client.link.memory for client in self._clients))

    def _look_at(self, client: AgentProcessClient) -> None:
        now, rules = monotonic(), self._rules
        silent = now - client.link.last_message_at
        if silent < _SILENT_SECONDS:
            self._blocked.discard(client.pid)
        elif client.pid not in self._blocked:
            self._blocked.add(client.pid)
            if self._tasks is not None:
                self._tasks.create_task(client.log_stack(silent), name="stack of a blocked agent process")
        elif rules.unresponsive_seconds is not None and silent > rules.unresponsive_seconds:
            _log.error("agent process killed: its event loop is blocked", pid=client.pid, seconds=round(silent, 1))
            client.kill()
        if not (client.is_draining or client.has_died or client.pid in self._replaced):
            reason = rules.reason_to_replace(client.link, now)
            if reason is not None:
                self._recycle(client, reason)

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


def _listed(changed: Collection[str]) -> dict[str, str]:
    return {"changed": ", ".join(sorted(changed))} if changed else {}
