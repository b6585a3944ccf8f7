"""The server's side of segments that run in an agent process: what the process says goes into their journals."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final

from unpause.agents.process.frames import ProtocolViolation
from unpause.agents.process.journal import CREDIT
from unpause.agents.process.messages import (
    CancelSegment,
    Credit,
    DeferCall,
    Emit,
    Ended,
    FindGrant,
    FinishCall,
    ProposeOutput,
    RecordOwnDecision,
    RecordTurn,
    RunSegment,
    SettleCall,
    ShowCall,
    StartCall,
    StartGrantedCall,
    StopSegment,
    Written,
)
from unpause.errors import InvalidInput
from unpause.tasks import TaskScope
from unpause.telemetry.tracing import current_trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from unpause.agents.driver import Journal, Segment, SegmentEnd
    from unpause.agents.process.messages import FromAgents

# So many messages are answered for with one Credit.
_CREDITED: Final = CREDIT // 4
# No driver has so many writes under way, or says so much that waits for no write: it would fill the server's memory.
_MAX_UNDER_WAY: Final = 10_000


class RemoteSegment:
    """One segment in an agent process, and its journal here."""

    def __init__(self, segment_id: int, journal: Journal, send: Callable[[object], None]) -> None:
        self._id = segment_id
        self._journal = journal
        self._send = send
        self._usage: dict[str, int] = {}
        self._taken = 0
        self._writing = 0
        self._since_write = 0
        # Whether nothing of it runs there: it has not begun, or the process has reported its end.
        self.has_ended_there = True
        self._writes = TaskScope()
        self._end: asyncio.Future[SegmentEnd] = asyncio.get_running_loop().create_future()

    async def run(self, agent_id: str, segment: Segment) -> SegmentEnd:
        """Have the process run the segment, and return its end.

        Raises what its journal raises, AgentProcessDied where the process does not live to its end, InvalidInput for
        an answer of the model that cannot be kept, and FrameTooLarge for a segment that cannot be sent. A cancellation
        is passed on, and not waited for.
        """
        usage = self._usage = dict(segment.run.usage or {})
        # Which does not refer to this object: only the garbage collector would free it and the journal together.
        self._journal.measure(lambda: usage)
        self._journal.on_stop(partial(self._send, StopSegment(self._id)))
        self._send(RunSegment(self._id, agent_id, segment, self._journal.stop_requested, current_trace()))
        self.has_ended_there = False
        async with self._writes:
            try:
                return await self._end
            finally:
                if not self.has_ended_there:
                    self._send(CancelSegment(self._id))

    def fail(self, error: Exception) -> None:
        """End the segment here with an error."""
        if not self._end.done():
            self._end.set_exception(error)
            # The caller of `run` may have been cancelled: then nobody retrieves the error.
            self._end.exception()

    async def take(self, message: FromAgents) -> None:
        """Handle a message of the process about the segment. Raises ProtocolViolation for one that no driver sends."""
        if self._end.done() or isinstance(message, Ended):
            if isinstance(message, Ended):
                self._take_end(message)
            return
        self._taken += 1
        if self._taken % _CREDITED == 0:
            self._send(Credit(self._id, _CREDITED))
        usage = getattr(message, "usage", None)
        if usage is not None:
            self._usage.update(usage)
        try:
            await self._write_down(message)
        except ProtocolViolation:
            raise
        except (KeyError, ValueError) as error:
            raise ProtocolViolation(f"a message about a call that there is not: {type(error).__name__}") from None
        except Exception as error:  # noqa: BLE001 - the boundary around a write: the caller of `run` gets the error
            self.fail(error)

    async def _write_down(self, message: FromAgents) -> None:
        journal = self._journal
        self._since_write += 1
        if self._since_write > _MAX_UNDER_WAY or self._writing > _MAX_UNDER_WAY:
            raise ProtocolViolation("more messages than a driver sends")
        match message:
            case Emit():
                # Events are committed as they come, with what was sent before them.
                self._since_write = 0
                await journal.emit(message.type, message.payload)
            case RecordTurn():
                journal.record_turn(message.messages, message.calls)
            case ProposeOutput():
                journal.propose_output(message.call)
            case ShowCall():
                journal.show_call(message.call_id, message.arguments, message.sent)
            case RecordOwnDecision():
                journal.record_own_decision(message.call_id, message.decision)
            case SettleCall():
                journal.settle_call(message.call_id, message.result)
            case FinishCall():
                journal.finish_call_soon(message.call_id, message.result)
                self._start_write(message)
            case StartCall() | DeferCall() | FindGrant() | StartGrantedCall():
                self._start_write(message)
            case _:
                raise ProtocolViolation("a message that belongs to no segment")

    def _start_write(self, message: StartCall | FinishCall | DeferCall | FindGrant | StartGrantedCall) -> None:
        """Write in a task: calls run beside one another, and what they write shares a commit."""
        self._since_write = 0
        self._writing += 1
        self._writes.start(self._write(message), f"write of segment {self._id}")

    async def _write(self, message: StartCall | FinishCall | DeferCall | FindGrant | StartGrantedCall) -> None:
        granted = True
        try:
            match message:
                case FindGrant():
                    granted = await self._journal.find_grant(message.request)
                case StartGrantedCall():
                    granted = await self._journal.start_granted_call(message.request, idempotent=message.idempotent)
                case StartCall():
                    await self._journal.start_call(message.call_id, idempotent=message.idempotent)
                case FinishCall():
                    await self._journal.flush()
                case DeferCall():
                    await self._journal.defer_call(message.call_id)
        except Exception as error:  # noqa: BLE001 - the boundary around a write: the caller of `run` gets the error
            self.fail(error)
        else:
            self._writing -= 1
            self._send(Written(self._id, message.request_id, self._journal.stop_requested, granted))

    def request_release(self) -> None:
        """Have it end before its next model or tool call, for another process to go on."""
        self._journal.request_release()

    def _take_end(self, message: Ended) -> None:
        self.has_ended_there = True
        if self._end.done():
            return
        end = message.paused or message.completed or message.failed
        if end is not None:
            self._end.set_result(end)
        elif message.invalid is not None:
            self.fail(InvalidInput(message.invalid))
        else:
            raise ProtocolViolation("a segment ended that nobody cancelled")
