"""What an executing run did since its last commit, its calls as they stand, and how that is written."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from unpause.agents.driver import refuse_long_names
from unpause.domain.arguments import is_same_json
from unpause.domain.event_payloads import call_payload
from unpause.domain.events import Event, EventType
from unpause.domain.runs import CallKind, CallStatus, Message, Outcome, ToolCall
from unpause.domain.storable import replace_unstorable
from unpause.services.audit import entry_for_own_decision
from unpause.store.approvals import add_approvals
from unpause.store.audit import add_entries
from unpause.store.events import add_events
from unpause.store.journal import (
    add_messages,
    add_tool_calls,
    consume_inputs,
    list_messages,
    list_tool_calls,
    settle_tool_call,
)
from unpause.store.large_results import is_large
from unpause.store.requirements import add_requirements
from unpause.telemetry.metrics import FIRST_EVENT, TOOL_CALLS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from unpause.agents.driver import CallResult, NewMessage, OwnDecision, ProposedCall, Segment
    from unpause.clock import Clock, Ids
    from unpause.domain.audit import AuditEntry
    from unpause.domain.requirements import Requirement
    from unpause.store.engine.database import Connection, Database
    from unpause.streaming.bus import Bus


@dataclass(frozen=True, slots=True)
class JournalContext:
    """What every segment journal of a process writes with."""

    database: Database
    bus: Bus
    clock: Clock
    ids: Ids


@dataclass(slots=True)
class PendingWrites:
    """What happened since the last commit; ``usage`` is all that the run has used up so far."""

    events: list[Event] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    added: dict[str, ToolCall] = field(default_factory=dict)
    settled: dict[str, ToolCall] = field(default_factory=dict)
    audit: list[AuditEntry] = field(default_factory=list)
    inputs_consumed: bool = False
    requirements: Sequence[Requirement] = ()
    usage: dict[str, int] | None = None

    def __bool__(self) -> bool:
        return bool(self.events or self.messages or self.added or self.settled or self.audit)

    def is_written(self, connection: Connection, run_key: int) -> bool:
        """Whether the new messages or calls are in the database already; for where no event shows it."""
        if self.messages:
            return any(message.position == self.messages[0].position for message in list_messages(connection, run_key))
        stored = list_tool_calls(connection, run_key) if self.added else ()
        return any(call.tool_call_id in self.added for call in stored)

    def write(
        self, connection: Connection, segment: Segment, last: int, now: datetime, large: Mapping[str, ToolCall]
    ) -> tuple[Event, ...]:
        """Write all but the run's own row; the newest event gets the number ``last``.

        ``large`` are the run's calls with large results, written before or now.
        """
        key = segment.run.id
        if self.inputs_consumed:
            consume_inputs(connection, key)
        add_messages(connection, key, self.messages, now, large)
        add_tool_calls(connection, key, self.added.values())
        for call in self.settled.values():
            settle_tool_call(connection, key, call)
        add_entries(connection, self.audit)
        add_requirements(connection, segment.run, self.requirements, len(segment.requirements), now)
        required = [requirement for requirement in self.requirements if requirement.approval == "required"]
        add_approvals(connection, segment.run, required, now)
        return add_events(connection, key, self.events, last)


class SegmentState:
    """The part of ``agents.driver.Journal`` that waits for no commit."""

    def __init__(self, segment: Segment, clock: Clock) -> None:
        self._segment = segment
        self._run = segment.run
        self._clock = clock
        self._calls = {call.tool_call_id: call for call in segment.calls}
        # Calls whose start was interrupted, as they were before it.
        self._not_begun: dict[str, ToolCall] = {}
        self._large = {key: call for key, call in self._calls.items() if is_large(call)}
        self._positions = len(segment.messages)
        self._turn = 1 + max((call.turn for call in segment.calls), default=-1)
        self._pending = PendingWrites()
        self._has_event = False
        self._meter: Callable[[], Mapping[str, int]] | None = None
        self._usage = segment.run.usage
        self._pause_requested = self._run.pause_requested_at is not None
        self._release_requested = False
        # A driver in this process looks at ``stop_requested`` itself.
        self._notify_stop: Callable[[], None] = lambda: None

    @property
    def stop_requested(self) -> bool:
        """Whether the segment should end before its next model or tool call."""
        return self._pause_requested or self._release_requested

    @property
    def releases(self) -> bool:
        """Whether the segment ends for another claim to go on, and not for a pause that was requested."""
        return self._release_requested and not self._pause_requested

    def request_pause(self) -> None:
        """End the segment before its next model or tool call: a pause of the run was requested."""
        self._pause_requested = True
        self._notify_stop()

    def request_release(self) -> None:
        """End the segment before its next model or tool call: this process stops, and another one is to go on."""
        self._release_requested = True
        self._notify_stop()

    def on_stop(self, notify: Callable[[], None]) -> None:
        """Call ``notify`` whenever ``stop_requested`` becomes true from here on."""
        self._notify_stop = notify

    def get_call(self, call_id: str) -> ToolCall:
        """Return the call as it stands now, committed or not."""
        return self._calls[call_id]

    def measure(self, meter: Callable[[], Mapping[str, int]]) -> None:
        """Write the usage that ``meter`` returns with every write from here on."""
        self._meter = meter

    def record_turn(self, messages: Sequence[NewMessage], calls: Sequence[ProposedCall]) -> None:
        """Append messages that end in an answer of the model, and the calls it made; kept with the next commit.

        Raises InvalidInput, having kept nothing, for a call whose id or name is too long to be kept.
        """
        refuse_long_names(calls)
        for message in messages:
            self._pending.messages.append(Message(self._positions, message.native, message.entries))
            self._positions += 1
        # A first prompt without images is in no row of its own.
        self._pending.inputs_consumed = any(item.position > 0 or item.images for item in self._segment.inputs)
        now = self._clock.now()
        for position, call in enumerate(calls):
            added = ToolCall(call.tool_call_id, call.tool_name, call.tool_args, self._turn, position, now)
            self._calls[call.tool_call_id] = self._pending.added[call.tool_call_id] = added
        if calls:
            self._turn += 1

    def propose_output(self, call: ProposedCall) -> None:
        """Record that the model's answer is processed as this call, unless it is known; kept with the next commit."""
        if call.tool_call_id in self._calls:
            return
        refuse_long_names((call,))
        added = ToolCall(
            call.tool_call_id,
            call.tool_name,
            call.tool_args,
            self._turn,
            0,
            self._clock.now(),
            kind=CallKind.OUTPUT,
        )
        self._calls[call.tool_call_id] = self._pending.added[call.tool_call_id] = added
        self._turn += 1

    def show_call(self, call_id: str, arguments: dict[str, Any], sent: dict[str, Any]) -> None:
        """Record the arguments that the tool would get, made of those that were ``sent``; kept with the next commit."""
        call = self._calls.get(call_id)
        if call is None:
            return
        sent_args = None if is_same_json(sent, arguments) else sent
        if not (is_same_json(call.tool_args, arguments) and is_same_json(call.sent_args, sent_args)):
            self._update_call(replace(call, tool_args=arguments, sent_args=sent_args))

    def record_own_decision(self, call_id: str, own: OwnDecision) -> None:
        """Add the decision of the agent's own handler to the audit trail; kept with the next commit."""
        entry = entry_for_own_decision(self._run, self._calls[call_id], own, self._clock.now())
        self._pending.audit.append(entry)

    def _add_finished(self, call_id: str, result: CallResult) -> None:
        call = self._finished(call_id, result)
        self._update_call(call)
        if call.is_shown and result.is_final:
            self._add_call_end(call, result)

    def _add_call_end(self, call: ToolCall, result: CallResult) -> None:
        self._add_event(EventType.TOOL_CALL_COMPLETED, call_payload(call))
        if result.outcome is not Outcome.SUCCESS:
            self._add_event(EventType.TOOL_CALL_FAILED, {**call_payload(call), "error": result.text})

    def _finished(self, call_id: str, result: CallResult) -> ToolCall:
        call, now = self._calls[call_id], self._clock.now()
        has_ended = call.status is CallStatus.FINISHED
        if call.started_at is not None and not has_ended:
            TOOL_CALLS.labels(self._run.agent_id, result.outcome.value).observe(_seconds(call.started_at, now))
        return replace(
            call,
            status=CallStatus.FINISHED,
            outcome=result.outcome,
            result=result.value,
            result_text=result.text if result.is_final else None,
            finished_at=call.finished_at if has_ended else now,
        )

    def _usage_so_far(self, usage: Mapping[str, int] | None = None) -> dict[str, int] | None:
        """Return the run's usage as far as it is known: never less than was written before."""
        earlier = self._usage or {}
        for counts in (usage, self._meter() if self._meter is not None else None):
            if counts is not None:
                earlier = {**earlier, **{name: max(count, earlier.get(name, 0)) for name, count in counts.items()}}
                self._usage = earlier
        return self._usage

    def _add_event(self, event_type: EventType, payload: Mapping[str, Any] | None = None) -> None:
        now = self._clock.now()
        if not self._has_event:
            self._has_event = True
            FIRST_EVENT.observe(_seconds(self._run.begun_at, now))
        self._pending.events.append(Event(event_type, now, dict(payload or {})))

    def _list_not_begun(self) -> dict[str, ToolCall]:
        """Return the calls whose start was interrupted, but for those that were started again since."""
        return {
            call_id: call for call_id, call in self._not_begun.items() if self._calls[call_id].status is call.status
        }

    def _update_call(self, call: ToolCall) -> None:
        self._calls[call.tool_call_id] = call
        if call.status is CallStatus.FINISHED and is_large(call):
            self._large = {**self._large, call.tool_call_id: call}
        if call.tool_call_id in self._pending.added:
            self._pending.added[call.tool_call_id] = call
        else:
            self._pending.settled[call.tool_call_id] = call

    def _take(self) -> PendingWrites:
        # A character from a model or tool that no database takes must not end the run.
        taken, self._pending = replace_unstorable(self._pending), PendingWrites()
        taken.usage = self._usage_so_far()
        return taken


def _seconds(since: datetime, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds())
