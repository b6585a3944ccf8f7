"""The journal of a segment that runs in an agent process: what happens goes to the server, in order."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from unpause.agents.driver import refuse_long_names
from unpause.agents.process.frames import FrameTooLarge
from unpause.agents.process.messages import (
    DeferCall,
    Emit,
    FindGrant,
    FinishCall,
    ProposeOutput,
    RecordOwnDecision,
    RecordTurn,
    SettleCall,
    ShowCall,
    StartCall,
    StartGrantedCall,
)
from unpause.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from unpause.agents.driver import CallResult, NewMessage, OwnDecision, ProposedCall, RequirementRequest
    from unpause.domain.events import EventType

# How many messages about a segment may be under way before it waits for the server.
CREDIT: Final = 512


class RemoteJournal:
    """Implements ``agents.driver.Journal``. Once the run belongs to someone else, the server cancels the segment."""

    def __init__(self, segment_id: int, send: Callable[[object], None], *, stop_requested: bool) -> None:
        """``send`` writes one message; raises FrameTooLarge."""
        self._id = segment_id
        self._send = send
        self._stop_requested = stop_requested
        self._meter: Callable[[], Mapping[str, int]] | None = None
        self._sent_usage: dict[str, int] | None = None
        self._requests = count(1)
        self._pending: dict[int, asyncio.Future[bool]] = {}
        self._finishing: list[asyncio.Future[bool]] = []
        self._credit = CREDIT
        self._may_send = asyncio.Event()
        self._may_send.set()

    # -- from the server

    def request_release(self) -> None:
        """Have the segment end before its next model or tool call."""
        self._stop_requested = True

    def add_credit(self, number: int) -> None:
        """Let so many more messages go."""
        self._credit += number
        if self._credit > 0:
            self._may_send.set()

    def written(self, request_id: int, *, stop_requested: bool, granted: bool) -> None:
        """Let go on what waited for its write."""
        self._stop_requested = self._stop_requested or stop_requested
        waiting = self._pending.pop(request_id, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(granted)

    # -- from the driver

    @property
    def stop_requested(self) -> bool:
        """Whether the segment should end, as paused, before its next model or tool call."""
        return self._stop_requested

    def on_stop(self, notify: Callable[[], None]) -> None:
        """Nothing: nobody here forwards it."""

    def measure(self, meter: Callable[[], Mapping[str, int]]) -> None:
        """Send what ``meter`` says with everything that is awaited, and with events."""
        self._meter = meter

    async def emit(self, event_type: EventType, payload: Mapping[str, Any] | None = None) -> None:
        """Send an event; wait only where the server has fallen behind."""
        await self._may_send.wait()
        self._post(Emit(self._id, event_type, None if payload is None else dict(payload), self._usage()))

    def record_turn(self, messages: Sequence[NewMessage], calls: Sequence[ProposedCall]) -> None:
        """Send messages and calls; raise InvalidInput for a call whose id or name is too long to be kept."""
        refuse_long_names(calls)
        self._post(RecordTurn(self._id, tuple(messages), tuple(calls), self._usage()))

    def propose_output(self, call: ProposedCall) -> None:
        """Send the call that processes the model's answer."""
        refuse_long_names((call,))
        self._post(ProposeOutput(self._id, call))

    def show_call(self, call_id: str, arguments: dict[str, Any], sent: dict[str, Any]) -> None:
        """Send the arguments that the tool would get."""
        self._post(ShowCall(self._id, call_id, arguments, sent))

    def record_own_decision(self, call_id: str, own: OwnDecision) -> None:
        """Send what the agent's own handler decided."""
        self._post(RecordOwnDecision(self._id, call_id, own))

    async def start_call(self, call_id: str, *, idempotent: bool) -> None:
        """Send that the call starts now; on disk when this returns."""
        request_id = next(self._requests)
        await self._request(request_id, StartCall(self._id, request_id, call_id, idempotent, self._usage()))

    async def find_grant(self, request: RequirementRequest) -> bool:
        """Ask whether a grant would decide the request."""
        request_id = next(self._requests)
        return await self._request(request_id, FindGrant(self._id, request_id, request))

    async def start_granted_call(self, request: RequirementRequest, *, idempotent: bool) -> bool:
        """Send that the call starts now where a grant decides it; on disk when this returns True."""
        request_id = next(self._requests)
        message = StartGrantedCall(self._id, request_id, request, idempotent, self._usage())
        return await self._request(request_id, message)

    async def finish_call(self, call_id: str, result: CallResult) -> None:
        """Send how the call ended; on disk when this returns."""
        self.finish_call_soon(call_id, result)
        await self.flush()

    def finish_call_soon(self, call_id: str, result: CallResult) -> None:
        """Send how the call ended."""
        request_id = next(self._requests)
        self._finishing.append(
            self._begin(request_id, FinishCall(self._id, request_id, call_id, result, self._usage()))
        )

    async def flush(self) -> None:
        """Wait until the server has written the end of every call that was sent."""
        while self._finishing:
            await self._finishing.pop()

    def settle_call(self, call_id: str, result: CallResult) -> None:
        """Send how a call ended that nobody waits for."""
        self._post(SettleCall(self._id, call_id, result))

    async def defer_call(self, call_id: str) -> None:
        """Send that the call's start is taken back; on disk when this returns."""
        request_id = next(self._requests)
        await self._request(request_id, DeferCall(self._id, request_id, call_id, self._usage()))

    # -- how it is sent

    async def _request(self, request_id: int, message: object) -> bool:
        try:
            return await self._begin(request_id, message)
        finally:
            self._pending.pop(request_id, None)

    def _begin(self, request_id: int, message: object) -> asyncio.Future[bool]:
        """Send the message; return the future that ``written`` settles."""
        self._post(message)
        waiting = self._pending[request_id] = asyncio.get_running_loop().create_future()
        return waiting

    def _post(self, message: object) -> None:
        try:
            self._send(message)
        except FrameTooLarge as error:
            raise InvalidInput(f"The agent produced too much at once: {error}.") from None
        self._credit -= 1
        if self._credit <= 0:
            self._may_send.clear()

    def _usage(self) -> dict[str, int] | None:
        """Return the run's usage so far; None where the server knows it already."""
        if self._meter is None:
            return None
        usage = dict(self._meter())
        if usage == self._sent_usage:
            return None
        self._sent_usage = usage
        return usage
