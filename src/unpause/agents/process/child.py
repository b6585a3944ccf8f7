"""What runs in an agent process: segments, many at once, each with a journal that speaks to the server."""

from __future__ import annotations

import asyncio
import os
import resource
from typing import TYPE_CHECKING, Final

import structlog

from unpause.agents.containment import is_stop
from unpause.agents.driver import ArgumentCheck, Completed, Failed, Paused
from unpause.agents.process.frames import FrameTooLarge
from unpause.agents.process.journal import RemoteJournal
from unpause.agents.process.messages import (
    UNAWAITED,
    AgentDescription,
    CancelSegment,
    CheckArguments,
    Checked,
    Credit,
    Ended,
    Heartbeat,
    Ready,
    RunSegment,
    Shutdown,
    StopSegment,
    Written,
    decode_from_server,
    encode,
)
from unpause.agents.process.threads import SegmentThreads, current_segment
from unpause.domain.runs import EndReason
from unpause.errors import InvalidInput
from unpause.telemetry.tracing import below

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unpause.agents.driver import AgentDriver, SegmentEnd
    from unpause.agents.process.frames import FrameSocket
    from unpause.agents.process.messages import FromServer

_log = structlog.get_logger(__name__)

_HEARTBEAT_SECONDS: Final = 1.0
_PAGE: Final = resource.getpagesize()


class AgentProcess:
    """The process's side of the protocol."""

    def __init__(
        self,
        frames: FrameSocket,
        drivers: Sequence[AgentDriver],
        setup: AgentDriver | None,
        threads: SegmentThreads | None = None,
        files: tuple[str, ...] = (),
    ) -> None:
        """``threads`` are those of the drivers' tools: a cancelled segment ends with the last one that works for it.

        ``files`` are those that the agents were loaded from, where the server asks for them.
        """
        self._frames = frames
        self._threads = threads
        self._files = files
        self._drivers = {driver.agent_id: driver for driver in drivers}
        self._setup = setup
        if setup is not None:
            self._drivers[setup.agent_id] = setup
        self._listed = tuple(driver for driver in drivers)
        self._segments: dict[int, tuple[asyncio.Task[None], RemoteJournal]] = {}
        # Segments that the server, and no author's code, has cancelled.
        self._cancelled: set[int] = set()
        self._main: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        """Run segments until the server says to end, or is gone."""
        self._main = asyncio.current_task()
        async with asyncio.TaskGroup() as tasks:
            self._send(self._ready())
            beating = tasks.create_task(self._beat(), name="heartbeat")
            while (data := await self._frames.receive()) is not None:
                message = decode_from_server(data)
                if isinstance(message, Shutdown):
                    break
                self._handle(tasks, message)
            beating.cancel()
            self._cancelled.update(self._segments)
            for segment, _ in self._segments.values():
                segment.cancel()

    def _ready(self) -> Ready:
        setup = None if self._setup is None else describe(self._setup)
        return Ready(tuple(describe(driver) for driver in self._listed), setup, self._files)

    def _handle(self, tasks: asyncio.TaskGroup, message: FromServer) -> None:
        match message:
            case RunSegment():
                self._start(tasks, message)
            case CheckArguments():
                tasks.create_task(self._check(message), name="check arguments")
            case StopSegment() | CancelSegment() | Written() | Credit() if message.segment_id in self._segments:
                segment, journal = self._segments[message.segment_id]
                match message:
                    case StopSegment():
                        journal.request_release()
                    case CancelSegment():
                        self._cancelled.add(message.segment_id)
                        segment.cancel()
                    case Written():
                        journal.written(
                            message.request_id, stop_requested=message.stop_requested, granted=message.granted
                        )
                    case Credit():
                        journal.add_credit(message.count)

    def _start(self, tasks: asyncio.TaskGroup, message: RunSegment) -> None:
        journal = RemoteJournal(message.segment_id, self._send, stop_requested=message.stop_requested)
        name = f"segment {message.segment_id}"
        self._segments[message.segment_id] = tasks.create_task(self._run(message, journal), name=name), journal

    async def _run(self, message: RunSegment, journal: RemoteJournal) -> None:
        run = message.segment.run
        end = Ended(message.segment_id)
        current_segment.set(message.segment_id)
        with structlog.contextvars.bound_contextvars(run_id=run.run_id, agent=run.agent_id), below(message.trace):
            try:
                driver = self._drivers[message.agent_id]
                end = _ended(message.segment_id, await driver.run_segment(message.segment, journal))
            except InvalidInput as error:
                end = Ended(message.segment_id, invalid=error.message)
            except BaseException as error:  # the boundary around a driver: what it raises ends only this run
                if message.segment_id in self._cancelled:
                    # A tool's thread goes on, and the cancelled task no longer waits for it.
                    await self._wait_for_threads(message.segment_id)
                elif is_stop(error) and self._is_ending():
                    # The server takes the run back from a process that has died.
                    raise
                else:
                    _log.exception("driver failed")
                    end = Ended(message.segment_id, failed=_failed(error))
            finally:
                self._segments.pop(message.segment_id, None)
        self._cancelled.discard(message.segment_id)
        self._end(end)

    async def _wait_for_threads(self, segment_id: int) -> None:
        if self._threads is not None:
            await self._threads.wait_for(segment_id)

    def _is_ending(self) -> bool:
        """Whether an author's code has cancelled the process's main task."""
        return self._main is not None and self._main.cancelling() > 0

    def _end(self, end: Ended) -> None:
        try:
            self._send(end)
        except FrameTooLarge as error:
            failed = Failed(EndReason.AGENT_ERROR, f"The agent's answer is too large: {error}")
            self._send(Ended(end.segment_id, failed=failed))

    async def _check(self, message: CheckArguments) -> None:
        check: ArgumentCheck | None = None
        driver = self._drivers.get(message.agent_id)
        if driver is not None:
            check = await asyncio.to_thread(
                driver.check_arguments, message.tool_name, message.arguments, frozenset(message.chosen)
            )
        try:
            self._send(Checked(message.request_id, check))
        except FrameTooLarge:
            # A run refuses the arguments with the reason.
            self._send(Checked(message.request_id))

    async def _beat(self) -> None:
        while True:
            self._send(Heartbeat(memory_in_use()))
            await asyncio.sleep(_HEARTBEAT_SECONDS)

    def _send(self, message: object) -> None:
        self._frames.send(encode(message), may_wait=isinstance(message, UNAWAITED))


def describe(driver: AgentDriver) -> AgentDescription:
    """Return the agent as the server shows it."""
    return AgentDescription(
        driver.agent_id,
        driver.agent_name,
        driver.model_name,
        driver.model_provider,
        tuple(driver.list_tools()),
        dict(driver.list_models()),
    )


def memory_in_use() -> int:
    """Return the bytes of memory that this process holds; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 - once a second, and faster
            return int(file.read().split()[1]) * _PAGE
    except OSError:
        return 0


def _ended(segment_id: int, end: SegmentEnd) -> Ended:
    match end:
        case Paused():
            return Ended(segment_id, paused=end)
        case Completed():
            return Ended(segment_id, completed=end)
        case Failed():
            return Ended(segment_id, failed=end)


def _failed(error: BaseException) -> Failed:
    return Failed(EndReason.AGENT_ERROR, f"The agent failed: {type(error).__name__}")


def end_process(code: int) -> None:
    """End now, whatever threads of tools still run."""
    os._exit(code)
