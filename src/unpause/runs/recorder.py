"""Writes down what an executing run does: events, messages and calls, in few transactions, under one fence."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from unpause.domain.events import Event, EventType
from unpause.domain.runs import CallStatus, Message, Outcome, ToolCall
from unpause.domain.text import replace_nul
from unpause.domain.transitions import Trigger
from unpause.errors import InvalidInput
from unpause.runs.snapshots import call_payload, pause_payload, pause_text
from unpause.store.approvals import add_approvals
from unpause.store.events import add_events
from unpause.store.journal import add_messages, add_tool_calls, consume_inputs, settle_tool_call
from unpause.store.requirements import add_requirements
from unpause.store.runs import reserve_sequence, transition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from unpause.agents.driver import CallResult, Completed, Failed, NewMessage, Paused, ProposedCall, Segment
    from unpause.clock import Clock, Ids
    from unpause.domain.requirements import Requirement
    from unpause.store.database import Connection, Database
    from unpause.streaming.bus import Bus

# Events of a streaming model are collected this long before they are committed together.
_COLLECT_SECONDS = 0.003

# As the columns have it.
_LONGEST_NAME = 255


@dataclass(slots=True)
class _Unwritten:
    """What happened since the last commit."""

    events: list[Event] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    added: dict[str, ToolCall] = field(default_factory=dict)
    settled: dict[str, ToolCall] = field(default_factory=dict)
    inputs_consumed: bool = False
    requirements: Sequence[Requirement] = ()

    def __bool__(self) -> bool:
        return bool(self.events or self.messages or self.added or self.settled)


@dataclass(frozen=True, slots=True)
class RecorderTools:
    """What a recorder writes with."""

    database: Database
    bus: Bus
    clock: Clock
    ids: Ids


class Recorder:
    """The journal of one segment. It implements ``agents.driver.Journal``."""

    def __init__(self, tools: RecorderTools, segment: Segment) -> None:
        self._tools = tools
        self._segment = segment
        self._run = segment.run
        self._calls = {call.tool_call_id: call for call in segment.calls}
        self._positions = len(segment.messages)
        self._turn = 1 + max((call.turn for call in segment.calls), default=-1)
        self._unwritten = _Unwritten()
        self._grown = asyncio.Event()
        self._commit_lock = asyncio.Lock()

    def get_call(self, call_id: str) -> ToolCall:
        """Return the call as it stands now, committed or not."""
        return self._calls[call_id]

    async def emit(self, event_type: EventType, payload: Mapping[str, Any] | None = None) -> None:
        """Add an event to the log, within a few milliseconds."""
        self._note(event_type, payload)
        self._grown.set()

    def record_turn(self, messages: Sequence[NewMessage], calls: Sequence[ProposedCall]) -> None:
        """Append messages that end in an answer of the model, and the calls it made; kept with the next commit.

        Raises InvalidInput, having kept nothing, for a call whose id or name is too long to be kept.
        """
        for call in calls:
            _refuse_long_name("id", call.tool_call_id)
            _refuse_long_name("name", call.tool_name)
        for message in messages:
            self._unwritten.messages.append(Message(self._positions, message.native, message.entries))
            self._positions += 1
        self._unwritten.inputs_consumed = bool(self._segment.inputs)
        now = self._tools.clock.now()
        for position, call in enumerate(calls):
            added = ToolCall(call.tool_call_id, call.tool_name, call.tool_args, self._turn, position, now)
            self._calls[call.tool_call_id] = self._unwritten.added[call.tool_call_id] = added
        if calls:
            self._turn += 1

    async def start_call(self, call_id: str, *, idempotent: bool) -> None:
        """Write that the call starts now; on disk when this returns."""
        call = replace(
            self._calls[call_id],
            status=CallStatus.STARTED,
            started_at=self._tools.clock.now(),
            idempotent=idempotent,
        )
        self._settle(call)
        self._note(EventType.TOOL_CALL_STARTED, call_payload(call))
        await self.flush()

    async def finish_call(self, call_id: str, result: CallResult) -> None:
        """Write how the call ended; on disk when this returns."""
        call = self._finished(call_id, result)
        self._settle(call)
        self._note(EventType.TOOL_CALL_COMPLETED, call_payload(call))
        if result.outcome is not Outcome.SUCCESS:
            self._note(EventType.TOOL_CALL_FAILED, {**call_payload(call), "error": result.text})
        await self.flush()

    def settle_call(self, call_id: str, result: CallResult) -> None:
        """Note how a call ended that never ran, unless it is known already; kept with the next commit."""
        if self._calls[call_id].status is not CallStatus.FINISHED:
            self._settle(self._finished(call_id, result))

    async def defer_call(self, call_id: str) -> None:
        """Take a start back: the tool itself asked to wait for a human before it did anything."""
        self._settle(replace(self._calls[call_id], status=CallStatus.PROPOSED, started_at=None))
        await self.flush()

    async def flush(self) -> None:
        """Commit everything that happened so far."""
        async with self._commit_lock:
            taken = self._take()
            if taken:
                await self._write(lambda connection: self._keep(connection, taken))

    async def flush_as_it_grows(self) -> None:
        """Commit collected events until cancelled: the segment's background task."""
        while True:
            await self._grown.wait()
            await asyncio.sleep(_COLLECT_SECONDS)
            self._grown.clear()
            await self.flush()

    async def pause(self, requirements: Sequence[Requirement], end: Paused) -> None:
        """End the segment waiting for ``requirements``; those of earlier pauses are shown along."""
        pause_id = requirements[0].pause_id if requirements else self._tools.ids.fresh()
        shown = (*self._segment.requirements, *requirements)
        content = end.content or pause_text(requirements)
        self._note(EventType.RUN_PAUSED, pause_payload(pause_id, content, self._calls.values(), shown))
        changes = {"pause_id": pause_id, "content": content, "usage": self._used(end.usage)}
        await self._end(Trigger.PAUSE, changes, requirements=requirements)

    async def complete(self, end: Completed) -> None:
        """End the run with its result."""
        usage = self._used(end.usage)
        self._note(EventType.RUN_COMPLETED, {"content": end.content, "content_type": end.content_type, "usage": usage})
        changes = {"content": end.content, "content_type": end.content_type, "usage": usage, "pause_id": None}
        await self._end(Trigger.COMPLETE, changes)

    async def fail(self, end: Failed) -> None:
        """End the run as ERROR."""
        self._note(EventType.RUN_FAILED, {"content": end.message, "reason": end.reason.value})
        changes = {"content": end.message, "end_reason": end.reason.value, "usage": self._used(end.usage)}
        await self._end(Trigger.FAIL, {**changes, "pause_id": None})

    async def release(self) -> None:
        """Give an unfinished segment back, for another claim to go on with."""
        async with self._commit_lock:
            taken = self._take()
            await self._write(lambda connection: self._keep(connection, taken, Trigger.RELEASE, {}))

    async def _end(self, trigger: Trigger, changes: dict[str, Any], requirements: Sequence[Requirement] = ()) -> None:
        async with self._commit_lock:
            taken = self._take()
            if trigger is not Trigger.PAUSE:
                changes["ended_at"] = self._tools.clock.now()
            taken.requirements = requirements
            await self._write(lambda connection: self._keep(connection, taken, trigger, changes))

    def _finished(self, call_id: str, result: CallResult) -> ToolCall:
        return replace(
            self._calls[call_id],
            status=CallStatus.FINISHED,
            outcome=result.outcome,
            result=result.value,
            result_text=result.text,
            finished_at=self._tools.clock.now(),
        )

    def _used(self, usage: Mapping[str, int] | None) -> dict[str, int] | None:
        """Return what the run has used up; where its agent was not asked, that is what it had before."""
        return dict(usage) if usage is not None else self._run.usage

    def _note(self, event_type: EventType, payload: Mapping[str, Any] | None = None) -> None:
        self._unwritten.events.append(Event(event_type, self._tools.clock.now(), dict(payload or {})))

    def _settle(self, call: ToolCall) -> None:
        self._calls[call.tool_call_id] = call
        if call.tool_call_id in self._unwritten.added:
            self._unwritten.added[call.tool_call_id] = call
        else:
            self._unwritten.settled[call.tool_call_id] = call

    def _take(self) -> _Unwritten:
        taken, self._unwritten = self._unwritten, _Unwritten()
        return taken

    async def _write(self, unit: Callable[[Connection], tuple[Event, ...]]) -> None:
        committed = await self._tools.database.write(unit)
        self._tools.bus.publish(self._run.id, committed)

    def _keep(
        self,
        connection: Connection,
        taken: _Unwritten,
        trigger: Trigger | None = None,
        changes: Mapping[str, Any] | None = None,
    ) -> tuple[Event, ...]:
        """Write ``taken``, and the end of the segment with it, or raise LeaseLost."""
        run, now = self._run, self._tools.clock.now()
        # What models and tools say is theirs; a character that no database takes must not end their run.
        taken, changes = replace_nul(taken), replace_nul(changes)
        if trigger is None:
            last = reserve_sequence(connection, run.id, run.fence, len(taken.events), now)
        else:
            columns = {**(changes or {}), "updated_at": now, "lease_expires_at": None, "events": len(taken.events)}
            last = transition(connection, run.id, trigger, fence=run.fence, changes=columns).last_sequence
        if taken.inputs_consumed:
            consume_inputs(connection, run.id)
        add_messages(connection, run.id, taken.messages, now)
        add_tool_calls(connection, run.id, taken.added.values())
        for call in taken.settled.values():
            settle_tool_call(connection, run.id, call)
        add_requirements(connection, run.id, taken.requirements, len(self._segment.requirements))
        required = [requirement for requirement in taken.requirements if requirement.approval == "required"]
        add_approvals(connection, run, required, now)
        return add_events(connection, run.id, taken.events, last)


def _refuse_long_name(what: str, name: str) -> None:
    if len(name) > _LONGEST_NAME:
        raise InvalidInput(
            f"The model made a tool call with {'an' if what == 'id' else 'a'} {what} of {len(name)} characters: "
            f"more than {_LONGEST_NAME} cannot be kept"
        )
