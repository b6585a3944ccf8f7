"""The server's end of the frames between it and one agent process: segments, checks, and signs of life."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final

from unpause.agents.driver import AgentProcessDied
from unpause.agents.process.frames import ProtocolViolation
from unpause.agents.process.journal import CREDIT
from unpause.agents.process.messages import (
    CheckArguments,
    Checked,
    Ended,
    Heartbeat,
    Ready,
    Refused,
    Shutdown,
    decode_from_agents,
    encode,
)
from unpause.agents.process.segments import RemoteSegment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from unpause.agents.driver import ArgumentCheck, Journal, Segment, SegmentEnd
    from unpause.agents.process.frames import FrameSocket
    from unpause.agents.process.messages import FromAgents

# The loop gives others their turn after so many messages of one process.
_TURN: Final = 64
# What a process may send that the server does not wait for: signs of life, and what segments still send that were
# cancelled. So many messages for each segment, and so many in a second; a large message counts as several.
_UNAWAITED_BY_SEGMENT: Final = 2 * CREDIT
_UNAWAITED_BY_SECOND: Final = 10
_UNAWAITED_BYTES: Final = 65_536


class AgentLink:
    """What the server asks of one agent process, and what the process says; ``name`` stands in logs and errors."""

    def __init__(self, frames: FrameSocket, name: str) -> None:
        self._frames = frames
        self._name = name
        self._segments: dict[int, RemoteSegment] = {}
        # Segments that were cancelled and have not ended there yet, with the moment of that.
        self.cancelled: dict[int, float] = {}
        self._checks: dict[int, asyncio.Future[ArgumentCheck | None]] = {}
        self._last_number = 0
        self._unawaited = 0
        self._since = monotonic()
        self._is_over = False
        self.segments_run = 0
        self.memory = 0
        self._last_message_at = monotonic()
        self._is_taking = False

    @property
    def last_message_at(self) -> float:
        """When the process last sent anything; now while the server, and not the process, is behind."""
        return monotonic() if self._is_taking else self._last_message_at

    @property
    def busy(self) -> int:
        """How many segments run there, those that were cancelled and do not give way among them."""
        return len(self._segments) + len(self.cancelled)

    @property
    def running(self) -> int:
        """How many segments run there that were not cancelled."""
        return len(self._segments)

    async def listen(self) -> None:
        """Do what the process says until it is gone. Raises ProtocolViolation."""
        taken = 0
        while (data := await self._frames.receive()) is not None:
            self._is_taking = True
            await self._take(decode_from_agents(data), len(data))
            self._is_taking, self._last_message_at = False, monotonic()
            taken += 1
            if taken % _TURN == 0:
                await asyncio.sleep(0)

    def end(self, reason: str) -> None:
        """End what still runs there, and waits for it, with AgentProcessDied."""
        self._is_over = True
        self._frames.close()
        died = AgentProcessDied(f"{self._name} ended ({reason})")
        for segment in tuple(self._segments.values()):
            segment.fail(died)
        for check in self._checks.values():
            if not check.done():
                check.set_exception(died)

    async def run_segment(self, agent_id: str, segment: Segment, journal: Journal) -> SegmentEnd:
        """Run a segment there. Raises AgentProcessDied."""
        self._refuse_if_over()
        number = self._last_number = self._last_number + 1
        remote = self._segments[number] = RemoteSegment(number, journal, self._send)
        self.segments_run += 1
        try:
            return await remote.run(agent_id, segment)
        finally:
            del self._segments[number]
            if not (remote.has_ended_there or self._is_over):
                self.cancelled[number] = monotonic()

    async def check_arguments(
        self, agent_id: str, tool_name: str, arguments: Mapping[str, Any], chosen: Sequence[str]
    ) -> ArgumentCheck | None:
        """Have a tool there check arguments. Raises AgentProcessDied."""
        self._refuse_if_over()
        number = self._last_number = self._last_number + 1
        check: asyncio.Future[ArgumentCheck | None] = asyncio.get_running_loop().create_future()
        self._checks[number] = check
        try:
            self._send(CheckArguments(number, agent_id, tool_name, dict(arguments), tuple(chosen)))
            return await check
        finally:
            del self._checks[number]

    def request_release(self) -> None:
        """Have all segments there end before their next model or tool call, for others to go on with them."""
        for segment in self._segments.values():
            segment.request_release()

    def request_shutdown(self) -> None:
        """Have the process close what its agents have open, and end."""
        self._send(Shutdown())

    def _refuse_if_over(self) -> None:
        if self._is_over:
            raise AgentProcessDied(f"{self._name} is gone")

    async def _take(self, message: FromAgents, size: int) -> None:
        match message:
            case Heartbeat():
                self.memory = message.memory
                self._count_unawaited(size)
            case Checked():
                check = self._checks.get(message.request_id)
                if check is None or check.done():
                    self._count_unawaited(size)
                else:
                    check.set_result(message.check)
            case Ready() | Refused():
                raise ProtocolViolation("it is ready already")
            case _:
                if isinstance(message, Ended):
                    self.cancelled.pop(message.segment_id, None)
                segment = self._segments.get(message.segment_id)
                if segment is not None:
                    await segment.take(message)
                elif message.segment_id > self._last_number:
                    raise ProtocolViolation("a message about a segment that it was not given")
                else:
                    self._count_unawaited(size)

    def _count_unawaited(self, size: int) -> None:
        """Raise ProtocolViolation for a process that floods the server."""
        self._unawaited += 1 + size // _UNAWAITED_BYTES
        most = _UNAWAITED_BY_SEGMENT * (1 + self.segments_run) + _UNAWAITED_BY_SECOND * (monotonic() - self._since)
        if self._unawaited > most:
            raise ProtocolViolation("a flood of messages that nobody waits for")

    def _send(self, message: object) -> None:
        """Write one message; raise FrameTooLarge."""
        if not self._is_over:
            self._frames.send(encode(message))
