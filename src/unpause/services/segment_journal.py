"""Commits what an executing run does: events, messages and calls, in few transactions, under one fence."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from unpause.clock import delays
from unpause.domain.event_payloads import call_payload, pause_payload, shown_calls
from unpause.domain.events import Event, EventType
from unpause.domain.explanations import awaiting_text
from unpause.domain.runs import CallKind, CallStatus, RunView, ToolCall
from unpause.domain.storable import replace_unstorable
from unpause.domain.transitions import Trigger
from unpause.errors import DatabaseBusy, DatabaseUnavailable
from unpause.services.audit import entries_for_reopened
from unpause.services.grants import GrantUse, find_usable
from unpause.services.notification_outbox import enqueue_notifications
from unpause.services.segment_state import JournalContext, PendingWrites, SegmentState
from unpause.store.engine.changes import note_details
from unpause.store.events import list_events
from unpause.store.runs import reserve_sequence, transition
from unpause.telemetry.metrics import GRANTED
from unpause.webhooks.outbox import enqueue_webhooks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import timedelta

    from unpause.agents.driver import CallResult, Completed, Failed, Paused, RequirementRequest
    from unpause.domain.requirements import Requirement
    from unpause.services.claims import Claimed
    from unpause.store.engine.database import Connection
    from unpause.store.runs import Moved

# Events of a streaming model are collected this long before they are committed together: where somebody is shown them,
# and where nobody is.
_COLLECT_SECONDS = 0.003
_UNWATCHED_SECONDS = 0.1

# With so many uncommitted events the segment waits for the database: what is kept in memory is bounded.
_MAX_UNCOMMITTED = 2000

# Between tries to write to a database that is away.
_FIRST_RETRY_SECONDS = 0.2
_LAST_RETRY_SECONDS = 5.0

Unit: TypeAlias = "Callable[[Connection], tuple[Event, ...]]"


class SegmentJournal(SegmentState):
    """The journal of one segment. Implements ``agents.driver.Journal``."""

    def __init__(self, context: JournalContext, claimed: Claimed, lease: timedelta) -> None:
        """``lease`` is for how long the run was claimed."""
        super().__init__(claimed.segment, context.clock)
        self._context = context
        self._lease = lease
        self._last = self._run.last_sequence
        # As they are stored.
        self._stored_messages = list(claimed.messages)
        self._stored_calls = dict(self._calls)
        self._end_view: RunView | None = None
        self._grown = asyncio.Event()
        self._is_due = asyncio.Event()
        self._commit_lock = asyncio.Lock()
        # The last write, from its begin until it is known to be committed: who waited for it may have been cancelled.
        self._torn: PendingWrites | None = None
        # Whether the segment's end has been added to what is to be written.
        self._is_ending = False
        # Why a write failed for good: what comes after it makes no sense without it.
        self._failure: Exception | None = None

    @property
    def fence(self) -> int:
        """The number of the claim that all is written under."""
        return self._run.fence

    async def emit(self, event_type: EventType, payload: Mapping[str, Any] | None = None) -> None:
        """Add an event to the log, within a few milliseconds; wait for a database that has fallen far behind."""
        self._add_event(event_type, payload)
        self._grown.set()
        if len(self._pending.events) >= _MAX_UNCOMMITTED:
            await self.flush()

    async def start_call(self, call_id: str, *, idempotent: bool) -> None:
        """Write that the call starts now; on disk when this returns."""
        at = self._clock.now()
        call = replace(self._calls[call_id], status=CallStatus.STARTED, started_at=at, idempotent=idempotent)
        self._update_call(call)
        if call.is_shown:
            self._add_event(EventType.TOOL_CALL_STARTED, call_payload(call))
        try:
            await self.flush()
        except asyncio.CancelledError:
            # The tool does not run, though its start may be written: the release takes it back.
            self._not_begun[call_id] = replace(call, status=CallStatus.PROPOSED, started_at=None)
            self._update_call(self._not_begun[call_id])
            raise

    async def find_grant(self, request: RequirementRequest) -> bool:
        """Whether a grant would decide the request as it stands now; a database that is away answers no."""
        run, call, now = self._run, self._calls[request.call_id], self._clock.now()
        try:
            found = await self._context.database.read(
                lambda connection: find_usable(connection, run, call, request, now)
            )
        except (DatabaseUnavailable, DatabaseBusy):
            return False
        return found is not None

    async def start_granted_call(self, request: RequirementRequest, *, idempotent: bool) -> bool:
        """Write that a grant decides the request and that its call starts now; return False where no grant does."""
        # In a transaction of its own: what comes before the call is kept, also where the grant is not used.
        await self.flush()
        async with self._commit_lock:
            await self._mend()
            call = self._calls[request.call_id]
            decided: Requirement | None = None
            position = len(self._segment.requirements)
            use = GrantUse(self._run, call, request, self._context.ids.fresh(), position)

            def started_by(required: Requirement) -> ToolCall:
                at, started = required.created_at, CallStatus.STARTED
                return replace(call, requirement=required, status=started, started_at=at, idempotent=idempotent)

            def unit(connection: Connection, *, again: bool) -> tuple[Event, ...]:
                nonlocal decided
                written = self._list_written(connection)
                if again and written:
                    return written
                decided = use.decide(connection, self._clock.now())
                if decided is None:
                    return ()
                started = started_by(decided)
                event = Event(EventType.TOOL_CALL_STARTED, decided.created_at, call_payload(started))
                taken = replace_unstorable(PendingWrites(events=[event], settled={call.tool_call_id: started}))
                return self._append(connection, taken, again=False)

            try:
                await self._write(PendingWrites(), self._context.database.write, unit)
            except asyncio.CancelledError:
                # As in start_call.
                self._not_begun[call.tool_call_id] = call
                self._update_call(call)
                raise
            if decided is None:
                return False
            GRANTED.labels(self._run.agent_id).inc()
            self._calls[call.tool_call_id] = self._stored_calls[call.tool_call_id] = started_by(decided)
            self._segment = replace(self._segment, requirements=(*self._segment.requirements, decided))
            return True

    async def finish_call(self, call_id: str, result: CallResult) -> None:
        """Write how the call ended; on disk when this returns."""
        self._add_finished(call_id, result)
        await self.flush()

    def finish_call_soon(self, call_id: str, result: CallResult) -> None:
        """Have the segment's background task write how the call ended, while the loop goes on to its next request."""
        self._add_finished(call_id, result)
        self._is_due.set()
        self._grown.set()

    def settle_call(self, call_id: str, result: CallResult) -> None:
        """Note how a call ended, unless it is known already; kept with the next commit."""
        call = self._calls[call_id]
        if call.status is CallStatus.FINISHED:
            return
        self._update_call(self._finished(call_id, result))
        if call.kind is CallKind.OUTPUT and call.status is CallStatus.STARTED:
            if call.is_shown:
                self._add_call_end(self._calls[call_id], result)
            self._grown.set()

    async def defer_call(self, call_id: str) -> None:
        """Take a start back: the tool deferred itself before it did anything."""
        self._update_call(replace(self._calls[call_id], status=CallStatus.PROPOSED, started_at=None))
        await self.flush()

    async def flush(self) -> None:
        """Commit everything that happened so far."""
        async with self._commit_lock:
            if self._failure is not None:
                # The background task has found out, and the segment is about to be stopped.
                raise self._failure
            await self._mend()
            taken, was_stopping = self._take(), self.stop_requested
            if taken:
                await self._commit(taken)
            if self.stop_requested and not was_stopping:
                self._notify_stop()

    async def settle(self) -> None:
        """Wait until what is being committed is."""
        async with self._commit_lock:
            pass

    async def flush_as_it_grows(self) -> None:
        """Commit collected events until cancelled: the segment's background task."""
        while True:
            await self._grown.wait()
            is_watched = self._context.bus.is_watched(self._run.id)
            with suppress(TimeoutError):
                async with asyncio.timeout(_COLLECT_SECONDS if is_watched else _UNWATCHED_SECONDS):
                    await self._is_due.wait()
            self._grown.clear()
            self._is_due.clear()
            await self.flush()

    async def pause(self, requirements: Sequence[Requirement], end: Paused) -> None:
        """End the segment waiting for ``requirements``; those of earlier pauses are shown along."""
        pause_id = requirements[0].pause_id if requirements else self._context.ids.fresh()
        shown = (*self._segment.requirements, *requirements)
        content = end.content or None
        self._add_event(EventType.RUN_PAUSED, pause_payload(pause_id, content, self._calls.values(), shown))
        self._pending.audit += entries_for_reopened(self._run, requirements, self._calls)
        changes = {
            "pause_id": pause_id,
            "content": content,
            "awaiting": awaiting_text(requirements),
            "pause_requested_at": None,
            "usage": self._usage_so_far(end.usage),
        }
        await self._end(Trigger.PAUSE, changes, requirements=requirements)

    async def complete(self, end: Completed) -> None:
        """End the run with its result."""
        if end.messages:
            self.record_turn(end.messages, ())
        usage = self._usage_so_far(end.usage)
        self._add_event(
            EventType.RUN_COMPLETED, {"content": end.content, "content_type": end.content_type, "usage": usage}
        )
        changes = {"content": end.content, "content_type": end.content_type, "usage": usage, "pause_id": None}
        await self._end(Trigger.COMPLETE, changes)

    async def fail(self, end: Failed) -> None:
        """End the run as ERROR."""
        self._add_event(EventType.RUN_FAILED, {"content": end.message, "reason": end.reason.value})
        changes = {
            "content": end.message,
            "end_reason": end.reason.value,
            "usage": self._usage_so_far(end.usage),
            "traceback": end.traceback,
            "pause_id": None,
        }
        await self._end(Trigger.FAIL, changes)

    async def release(self) -> None:
        """Give an unfinished segment back, for another claim to go on with."""
        async with self._commit_lock:
            torn, taken = self._torn, PendingWrites(settled=self._list_not_begun())
            # What came after a write that failed makes no sense without it, nor does the end of what is given back.
            if self._failure is None and not self._is_ending:
                taken = self._take()
            else:
                torn = None
            changes = {} if taken.usage is None else {"usage": taken.usage}

            def unit(connection: Connection) -> None:
                if torn is not None:
                    # Before all that came after it, unless it has happened.
                    self._append(connection, torn, again=True)
                self._transition(connection, taken, Trigger.RELEASE, changes)

            try:
                # Not tried again here: a process that stops cannot wait.
                await self._context.database.write(unit)
            except (DatabaseUnavailable, DatabaseBusy):
                # For the next try of a process that goes on.
                self._pending = taken
                raise

    async def _end(self, trigger: Trigger, changes: dict[str, Any], requirements: Sequence[Requirement] = ()) -> None:
        self._is_ending = True
        async with self._commit_lock:
            await self._mend()
            taken = self._take()
            if trigger is not Trigger.PAUSE:
                changes["ended_at"] = self._clock.now()
            taken.requirements = replace_unstorable(tuple(requirements))
            write = partial(self._context.database.write, waits=False)
            await self._write(taken, write, lambda connection, **_: self._end_with(connection, taken, trigger, changes))
        if requirements:
            self._context.bus.requirements_changed(self._run.id)

    async def _mend(self) -> None:
        """Commit the write before, unless it is, where who waited for it was cancelled."""
        if self._torn is not None:
            await self._commit(self._torn, again=True)

    async def _commit(self, taken: PendingWrites, *, again: bool = False) -> None:
        def unit(connection: Connection, *, again: bool) -> tuple[Event, ...]:
            return self._append(connection, taken, again=again)

        await self._write(taken, self._context.database.append, unit, again=again)
        self._stored_messages += taken.messages
        self._stored_calls |= taken.added | taken.settled

    async def _write(
        self,
        taken: PendingWrites,
        write: Callable[[Unit], Awaitable[tuple[Event, ...]]],
        unit: Callable[..., tuple[Event, ...]],
        *,
        again: bool = False,
    ) -> None:
        """Write however long the database is away; ``unit`` learns whether an earlier try may have been committed."""
        self._torn = taken
        for delay in delays(_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS):
            try:
                committed = await write(partial(unit, again=again))
            except (DatabaseUnavailable, DatabaseBusy) as error:
                # A busy database has written nothing.
                again = again or isinstance(error, DatabaseUnavailable)
                await asyncio.sleep(delay)
                continue
            except Exception as error:
                self._torn, self._failure = None, error
                raise
            self._torn = None
            if committed:
                self._last = committed[-1].sequence
            self._context.bus.publish(self._run.id, committed, self._end_view)
            return

    def _append(self, connection: Connection, taken: PendingWrites, *, again: bool) -> tuple[Event, ...]:
        """Write ``taken`` while the segment goes on, or raise LeaseLost."""
        run = self._run
        if again and ((written := self._list_written(connection)) or taken.is_written(connection, run.id)):
            return written
        now = self._clock.now()
        reserved = reserve_sequence(
            connection,
            run.id,
            run.fence,
            len(taken.events),
            now,
            lease=self._lease,
            usage=taken.usage,
            has_progressed=run.crashes > 0
            and any(call.status is CallStatus.FINISHED for call in taken.settled.values()),
        )
        # A pause that was requested at another process: this one learns of it at its next commit.
        self._pause_requested = self._pause_requested or reserved.pause_requested
        return taken.write(connection, self._segment, reserved.last, now, self._large)

    def _list_written(self, connection: Connection) -> tuple[Event, ...]:
        """Lock the run, and return the events of a try before this one, which may have been committed.

        Nobody else appends to a run under our fence, so a log that has grown has grown by that. The fence is checked
        first: a process that took the run over meanwhile writes to the same log.
        """
        run = self._run
        held = reserve_sequence(connection, run.id, run.fence, 0, self._clock.now())
        return (
            tuple(list_events(connection, run.id, self._last, held.last - self._last)) if held.last > self._last else ()
        )

    def _end_with(
        self, connection: Connection, taken: PendingWrites, trigger: Trigger, changes: Mapping[str, Any]
    ) -> tuple[Event, ...]:
        """Write ``taken`` and the end of the segment, which is announced to clients, or raise LeaseLost."""
        moved, events = self._transition(connection, taken, trigger, changes)
        run = moved.run
        if trigger is Trigger.PAUSE:
            waits_for = ", ".join(sorted({requirement.tool_name for requirement in taken.requirements}))
            note_details(connection, waits_for=waits_for or "the user's next message")
        if moved.has_targets:
            enqueue_webhooks(connection, run, run.updated_at, taken.requirements)
        if moved.has_channels:
            enqueue_notifications(connection, run, run.updated_at, taken.requirements)
        requirements = (*self._segment.requirements, *taken.requirements)
        calls = {**self._stored_calls, **taken.added, **taken.settled}.values()
        in_order = sorted(calls, key=lambda call: (call.turn, call.position))
        messages = (*self._stored_messages, *taken.messages)
        self._end_view = RunView(run, shown_calls(in_order, requirements), messages, requirements)
        return events

    def _transition(
        self, connection: Connection, taken: PendingWrites, trigger: Trigger, changes: Mapping[str, Any]
    ) -> tuple[Moved, tuple[Event, ...]]:
        """Write ``taken`` and the run's change with it, or raise LeaseLost."""
        now = self._clock.now()
        columns = {
            **replace_unstorable(changes),
            "updated_at": now,
            "lease_expires_at": None,
            "events": len(taken.events),
        }
        moved = transition(connection, self._run.id, trigger, fence=self._run.fence, changes=columns)
        return moved, taken.write(connection, self._segment, moved.run.last_sequence, now, self._large)
